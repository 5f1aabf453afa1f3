"""How deep a parameter lies, for learning rates that decay towards the input."""

import re

PLACE = re.compile(r'layers\.(\d+)\.(?:blocks\.(\d+)|downsample)\.')


def layer_depth(name: str, depths: tuple[int, ...]) -> int:
    """Depth of a backbone's parameter: 0 for the embeddings, then one per block; output norms share the last one.

    A merging layer is as deep as the last block before it, as in MMPreTrain's Swin Transformer.
    """
    if name.startswith(('patch_embed.', 'absolute_pos_embed')):
        return 0
    match = PLACE.match(name)
    if match is None:
        return sum(depths) + 1
    stage, block = int(match[1]), match[2]
    return sum(depths[: stage + 1]) if block is None else sum(depths[:stage]) + int(block) + 1
