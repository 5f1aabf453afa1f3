"""Helpers that several tests share."""

from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer

TINY: dict[str, Any] = dict(variant=None, embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), drop_path_rate=0.0)


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Return the largest difference divided by the largest magnitude of ``reference``."""
    scale = reference.abs().max().clamp_min(torch.finfo(reference.dtype).tiny)
    return ((ours - reference).abs().max() / scale).item()


def randomize(model: nn.Module, std: float = 0.2) -> nn.Module:
    """Set every parameter to random values, because terms with initial values of zero or one would hide errors."""
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
    """Build a small backbone with random weights."""
    return randomize(SwinTransformer(**{**TINY, **overrides}))
