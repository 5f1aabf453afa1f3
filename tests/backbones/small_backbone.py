"""A small backbone, and comparisons of its maps and gradients with and without a tool."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer
from tests.helpers import randomize, relative_error

SIZES: dict[str, Any] = dict(
    variant=None, embed_dim=16, depths=(2, 2), num_heads=(1, 2), window_size=4, out_indices=(0, 1), drop_path_rate=0.0
)
LARGE, SMALL = (97, 121), (24, 40)
"""Sides of images. The map of the first one needs padding, is shifted, and is computed in groups on a CPU without
gradients; that of the second one is too small for groups."""

MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    'gradients': torch.enable_grad,
    'no_grad': torch.no_grad,
    'inference': torch.inference_mode,
}


def build(version: int, **options: Any) -> SwinTransformer:
    """Build a backbone with random weights that depend only on the options."""
    torch.manual_seed(0)
    model = randomize(SwinTransformer(**{**SIZES, 'version': version, **options}))
    assert isinstance(model, SwinTransformer)
    return model


def images(batch: int = 2) -> Iterator[Tensor]:
    """Yield one image tensor per size."""
    generator = torch.Generator().manual_seed(1)
    for size in (LARGE, SMALL):
        yield torch.randn(batch, 3, *size, generator=generator)


def loss_of(maps: Any) -> Tensor:
    """Return a scalar that depends on every value of the maps."""
    total: Tensor = sum((out * out).mean() for out in maps)  # type: ignore[assignment]
    return total


def assert_same_maps(model: Any, expected: nn.Module, tolerance: float = 1e-5) -> None:
    """Assert that the maps of two models are equal, in training with gradients and in evaluation without."""
    for training, mode in ((True, 'gradients'), (False, 'no_grad'), (False, 'inference')):
        model.train(training)
        expected.train(training)
        for image in images():
            with MODES[mode]():
                for ours, reference in zip(model(image), expected(image), strict=True):
                    assert ours.shape == reference.shape
                    assert relative_error(ours, reference) < tolerance


def gradients_of(model: nn.Module, image: Tensor) -> dict[str, Tensor | None]:
    """Return the gradients of the parameters by name."""
    model.zero_grad()
    loss_of(model(image)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same_gradients(model: nn.Module, expected: nn.Module, tolerance: float = 1e-4, flat: bool = False) -> None:
    """Assert that all parameters have equal gradients in both models; ``flat`` if the model flattens parameters."""
    for image in images():
        ours, reference = gradients_of(model, image), gradients_of(expected, image)
        for (name, grad), other in zip(ours.items(), reference.values(), strict=True):
            assert grad is not None and other is not None, name
            other = other.flatten() if flat else other
            assert relative_error(grad.view_as(other), other) < tolerance, name


def levels(supported: list[Any], experimental: list[Any]) -> list[Any]:
    """Return pytest parameters of tools, marked with their level of support and named after their functions."""
    rows = [pytest.param(tool, id=tool.__name__, marks=pytest.mark.supported) for tool in supported]
    return rows + [pytest.param(tool, id=tool.__name__, marks=pytest.mark.experimental) for tool in experimental]
