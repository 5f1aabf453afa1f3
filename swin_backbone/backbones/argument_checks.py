"""Errors for arguments of other implementations and for invalid images, with advice."""

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
"""Arguments of the Swin classes of MMDetection and MMSegmentation that SwinTransformer does not have."""

FROM_TIMM = {
    'img_size': 'any image size works, and pretrain_img_size is the grid of an absolute embedding',
    'in_chans': 'use in_channels',
    'features_only': 'every backbone returns feature maps',
    'num_classes': 'a backbone has no classifier',
    'global_pool': 'a backbone has no classifier',
    'proj_drop_rate': 'use drop_rate',
    'always_partition': "use small_maps='pad', the default",
    'strict_img_size': 'any image size works',
    'dynamic_mask': 'any image size works',
}
"""Arguments of timm's Swin classes, and what to use instead."""


def raise_unknown_arguments(names: list[str]) -> NoReturn:
    """Raise an error for arguments that the constructor does not have.

    Raises:
        InputError: if they are arguments of the toolkits or of timm.
        TypeError: otherwise.
    """
    if names == ['pretrained']:
        raise InputError(
            "SwinTransformer has no argument pretrained: use init_cfg=dict(type='Pretrained', checkpoint=...) in a "
            'config, call load_pretrained(model, source) or create_model(name, pretrained=True), or use '
            "type='swin_backbone.MMSwinTransformer'."
        )
    if set(names) <= set(TOOLKIT_ARGUMENTS):
        raise InputError(
            f"{', '.join(names)} {'is an argument' if len(names) == 1 else 'are arguments'} of the toolkits' own "
            "class: use type='swin_backbone.MMSwinTransformer', which accepts them, or, if they come from a base "
            'config, set _delete_=True in the backbone.'
        )
    other = next(name for name in names if name not in TOOLKIT_ARGUMENTS)
    if other in FROM_TIMM:
        raise InputError(f'SwinTransformer has no argument {other}: {FROM_TIMM[other]}.')
    raise TypeError(f'SwinTransformer.__init__() got an unexpected keyword argument {other!r}')


def check_image(image: Tensor, in_channels: int) -> None:
    """Raise InputError if ``image`` is not a floating-point tensor ``[B, in_channels, H, W]`` with H and W above 0."""
    if isinstance(image, torch.fx.Proxy):
        raise InputError(
            'torch.fx cannot trace this backbone, whose steps depend on the image size: use torch.export, forward '
            'hooks, or out_indices for maps of other stages.'
        )
    if not isinstance(image, Tensor):
        raise InputError(
            f'expected a tensor [B, {in_channels}, H, W], got {type(image).__name__}: convert it with '
            'torch.from_numpy, channels first, and normalise it.'
        )
    if not image.is_floating_point():
        raise InputError(
            f'expected normalised floating-point values, got {str(image.dtype).removeprefix("torch.")}: convert the '
            'image to float, and normalise it as in the training of the weights.'
        )
    if image.dim() != 4 or image.shape[1] != in_channels or 0 in image.shape[2:]:
        raise InputError(
            f'expected an image [B, {in_channels}, H, W] with H and W at least 1, got {tuple(image.shape)}: check the '
            'layout, and in_channels of the backbone.'
        )
