"""The network that weights belong to: Swin Transformer for images, Swin-Mixer, or Video Swin Transformer."""

from collections.abc import Mapping

from torch import Tensor

from swin_backbone.checkpoint.output_norms import last_stage
from swin_backbone.errors import InputError
from swin_backbone.variants import MIXERS, VARIANTS, VIDEOS, Variant

IMAGE, MIXER, VIDEO = 'Swin Transformer', 'Swin-Mixer', 'Video Swin Transformer'
PATCH = 'patch_embed.proj.weight'

CLASSES = {IMAGE: 'SwinTransformer', MIXER: 'SwinMixer', VIDEO: 'VideoSwinTransformer'}
"""The class of each network in this package."""

DESCRIPTIONS = {
    IMAGE: 'a Swin Transformer for images',
    MIXER: 'a Swin-Mixer (Swin-MLP), which mixes the tokens of a window by fixed weights instead of attention',
    VIDEO: 'a Video Swin Transformer, whose patches and windows extend in time',
}


def network_of(state: Mapping[str, Tensor]) -> str:
    """Return which network a state dict with native parameter names belongs to."""
    if any(name.endswith('.spatial_mlp.weight') for name in state):
        return MIXER
    return VIDEO if PATCH in state and state[PATCH].dim() == 5 else IMAGE


def variants_of(network: str, version: int) -> dict[str, Variant]:
    """Return the named sizes of a network."""
    if network == IMAGE:
        return {name: known for name, known in VARIANTS.items() if version in known.versions}
    return MIXERS if network == MIXER else VIDEOS


def check_network(file: Mapping[str, Tensor], model: Mapping[str, Tensor], source: str) -> None:
    """Raise an error if the weights belong to a different network.

    Image weights are accepted for a video backbone, which inflates them.

    Raises:
        InputError: if the networks differ; the message names the network of the file and the class that loads it.
    """
    file_network, model_network = network_of(file), network_of(model)
    if file_network != model_network and (file_network, model_network) != (IMAGE, VIDEO):
        raise InputError(
            f'{source} contains {DESCRIPTIONS[file_network]}: this backbone is a {model_network} and cannot use its '
            f'weights. Load it into swin_backbone.{CLASSES[file_network]}.'
        )


def with_final_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the final ``norm`` to the norm of the last output, which it is in a video backbone."""
    last = f'norm{last_stage(state)}.'
    if f'{last}weight' in state:
        return dict(state)
    return {f'{last}{name[5:]}' if name.startswith('norm.') else name: value for name, value in state.items()}
