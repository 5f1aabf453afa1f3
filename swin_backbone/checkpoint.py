"""Temporary stand-in until the loader lands: same names, native state dicts only."""

from typing import Any

import torch
from torch import nn


def load_pretrained(model: nn.Module, source: str, strict: bool = True) -> Any:
    """Stand-in."""
    state = torch.load(source, weights_only=True)
    return model.load_state_dict(state, strict=strict)


def convert_on_load(*args: Any) -> None:
    """Stand-in."""
