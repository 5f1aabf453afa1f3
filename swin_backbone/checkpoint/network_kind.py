"""Which network weights belong to: a Swin Transformer for images, a Swin-Mixer, or a Video Swin Transformer."""

from collections.abc import Mapping

from torch import Tensor

from swin_backbone.checkpoint.output_norms import last_stage
from swin_backbone.errors import InputError
from swin_backbone.variants import MIXERS, VARIANTS, VIDEOS, Variant

IMAGE, MIXER, VIDEO = 'Swin Transformer', 'Swin-Mixer', 'Video Swin Transformer'
PATCH = 'patch_embed.proj.weight'

CLASSES = {IMAGE: 'SwinTransformer', MIXER: 'SwinMixer', VIDEO: 'VideoSwinTransformer'}
"""What builds each of them."""

DESCRIPTIONS = {
    IMAGE: 'a Swin Transformer for images',
    MIXER: 'a Swin-Mixer (Swin-MLP), which mixes the tokens of a window by fixed weights instead of attention',
    VIDEO: 'a Video Swin Transformer, whose patches and windows extend in time',
}


def network_of(state: Mapping[str, Tensor]) -> str:
    """The network that parameters under native names belong to, of a file or of a model."""
    if any(name.endswith('.spatial_mlp.weight') for name in state):
        return MIXER
    return VIDEO if PATCH in state and state[PATCH].dim() == 5 else IMAGE


def variants_of(network: str, version: int) -> dict[str, Variant]:
    """The named sizes of a network."""
    if network == IMAGE:
        return {name: known for name, known in VARIANTS.items() if version in known.versions}
    return MIXERS if network == MIXER else VIDEOS


def check_network(file: Mapping[str, Tensor], model: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights of another network; those for images serve a video backbone, too, which inflates them.

    Raises:
        InputError: they are; the message names the network and the class that loads it.
    """
    theirs, ours = network_of(file), network_of(model)
    if theirs != ours and (theirs, ours) != (IMAGE, VIDEO):
        raise InputError(
            f'{source} holds {DESCRIPTIONS[theirs]}: this backbone is a {ours} and cannot use its weights. Load it '
            f'into swin_backbone.{CLASSES[theirs]}.'
        )


def with_final_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Call the final norm ``norm`` that of the last output, which it is in a video backbone."""
    last = f'norm{last_stage(state)}.'
    if f'{last}weight' in state:
        return dict(state)
    return {f'{last}{name[5:]}' if name.startswith('norm.') else name: value for name, value in state.items()}
