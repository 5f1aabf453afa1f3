"""What a backbone refuses: arguments of other implementations, and what is no image; each with what to do instead."""

from typing import NoReturn

import torch
import torch.fx
from torch import Tensor

from swin_backbone.errors import InputError

TOOLKIT_ARGUMENTS = (
    'embed_dims',
    'strides',
    'qk_scale',
    'use_abs_pos_embed',
    'act_cfg',
    'norm_cfg',
    'pretrained',
    'convert_weights',
)
"""Arguments of the Swin classes of MMDetection and MMSegmentation that have another name here, or none."""

FROM_TIMM = {
    'img_size': 'any image size works, and pretrain_img_size is the grid of an absolute embedding',
    'in_chans': 'it is called in_channels here',
    'features_only': 'every backbone returns feature maps',
    'num_classes': 'a backbone has no classifier',
    'global_pool': 'a backbone has no classifier',
    'proj_drop_rate': 'it is called drop_rate here',
    'always_partition': "it is small_maps='pad' here, the default",
    'strict_img_size': 'any image size works',
    'dynamic_mask': 'any image size works',
}
"""Arguments of timm's Swin classes, and what to do without them."""


def refuse_arguments(names: list[str]) -> NoReturn:
    """Refuse arguments that the constructor has not.

    Raises:
        InputError: all of them are the toolkits'.
        TypeError: they are not.
    """
    if names == ['pretrained']:
        raise InputError(
            "SwinTransformer takes no pretrained: give init_cfg=dict(type='Pretrained', checkpoint=...) in a config, "
            'call load_pretrained(model, source) or create_model(name, pretrained=True), or use '
            "type='swin_backbone.MMSwinTransformer'."
        )
    if set(names) <= set(TOOLKIT_ARGUMENTS):
        raise InputError(
            f"{', '.join(names)} {'is an argument' if len(names) == 1 else 'are arguments'} of the toolkits' own "
            "class: use type='swin_backbone.MMSwinTransformer', which takes them, or, where a base config has them, "
            'write _delete_=True in the backbone.'
        )
    other = next(name for name in names if name not in TOOLKIT_ARGUMENTS)
    if other in FROM_TIMM:
        raise InputError(f'SwinTransformer takes no {other}: {FROM_TIMM[other]}.')
    raise TypeError(f'SwinTransformer.__init__() got an unexpected keyword argument {other!r}')


def check_image(image: Tensor, in_channels: int) -> None:
    """Refuse what is not an image ``[B, in_channels, H, W]`` of floating-point numbers with at least one pixel."""
    if isinstance(image, torch.fx.Proxy):
        raise InputError(
            'torch.fx cannot trace this backbone, whose steps depend on the image size: use torch.export, forward '
            'hooks, or out_indices for maps of other stages.'
        )
    if not isinstance(image, Tensor):
        raise InputError(
            f'expected a tensor [B, {in_channels}, H, W], got {type(image).__name__}: convert it with '
            'torch.from_numpy, channels first, normalised.'
        )
    if not image.is_floating_point():
        raise InputError(
            f'expected normalised floating-point values, got {str(image.dtype).removeprefix("torch.")}: convert the '
            'image to float, and normalise it as the weights were trained.'
        )
    if image.dim() != 4 or image.shape[1] != in_channels or 0 in image.shape[2:]:
        raise InputError(
            f'expected an image of [B, {in_channels}, H, W] with H and W at least 1, got {tuple(image.shape)}: '
            'check the layout, and in_channels of the backbone.'
        )
