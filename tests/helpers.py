"""Small makers and measures that several tests need."""

from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer

TINY: dict[str, Any] = dict(variant=None, embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), drop_path_rate=0.0)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference as a fraction of the largest magnitude of ``theirs``."""
    scale = theirs.abs().max().clamp_min(torch.finfo(theirs.dtype).tiny)
    return ((ours - theirs).abs().max() / scale).item()


def randomize(model: nn.Module, std: float = 0.2) -> nn.Module:
    """Give every parameter a value that matters, so that no term can hide behind its initial zero or one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('logit_scale'):
                parameter.uniform_(1.0, 3.0)
            elif parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * std)
            else:
                parameter.normal_(std=std if 'bias_table' in name else max(0.02, parameter[0].numel() ** -0.5))
    return model


def tiny_backbone(**overrides: Any) -> SwinTransformer:
    """A small backbone with weights that matter."""
    return randomize(SwinTransformer(**{**TINY, **overrides}))
