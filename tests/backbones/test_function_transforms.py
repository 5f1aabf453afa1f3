"""torch.func transforms and forward-mode differentiation of a backbone, compared with autograd."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward_mode
from torch import Tensor

from tests.backbones.small_backbone import MODES, build, gradients_of, images, levels, loss_of
from tests.helpers import randomize, relative_error


def functional_call(version: int) -> None:
    model, other = build(version), randomize(build(version))
    values = dict(other.named_parameters())
    for mode in MODES.values():
        for image in images():
            with mode():
                for a, b in zip(torch.func.functional_call(model, values, image), other(image), strict=True):
                    assert relative_error(a, b) < 1e-6
    image = next(images())
    loss_of(torch.func.functional_call(model, values, image)).backward()
    assert all(p.grad is not None for p in other.parameters()) and all(p.grad is None for p in model.parameters())


def function_gradients(version: int) -> None:
    model = build(version)
    values = {name: p.detach() for name, p in model.named_parameters()}
    for image in images():
        found = torch.func.grad(lambda v, image: loss_of(torch.func.functional_call(model, v, image)))(values, image)
        for name, expected in gradients_of(model, image).items():
            assert relative_error(found[name], expected) < 1e-4, name


def vmapped(version: int) -> None:
    model = build(version)
    for image in images(3):
        for context in MODES.values():
            with context():
                expected = model(image)
                for a, b in zip(torch.func.vmap(lambda one: model(one[None]))(image), expected, strict=True):
                    assert relative_error(a[:, 0], b) < 1e-5


def per_sample_gradients(version: int) -> None:
    model = build(version)
    values = {name: p.detach() for name, p in model.named_parameters()}
    for image in images(2):
        found = torch.func.vmap(
            torch.func.grad(lambda v, one: loss_of(torch.func.functional_call(model, v, one[None]))), (None, 0)
        )(values, image)
        for index in range(2):
            for name, expected in gradients_of(model, image[index : index + 1]).items():
                assert relative_error(found[name][index], expected) < 1e-4, name


def ensembles(version: int) -> None:
    models = [randomize(build(version)) for _ in range(2)]
    params, buffers = torch.func.stack_module_state(models)
    base = copy.deepcopy(models[0]).to('meta')

    def run(values: Any, constants: Any, image: Tensor) -> Any:
        return torch.func.functional_call(base, (values, constants), image)

    for context in MODES.values():
        for image in images():
            with context():
                outs = torch.func.vmap(run, (0, 0, None))(params, buffers, image)
                for index, model in enumerate(models):
                    for a, b in zip(outs, model(image), strict=True):
                        assert relative_error(a[index], b) < 1e-5


def forward_mode_gradients(version: int) -> None:
    model = build(version).double()
    for image in images(1):
        image = image.double().requires_grad_()
        tangent = torch.randn_like(image)
        expected = (torch.autograd.grad(loss_of(model(image)), image)[0] * tangent).sum()
        for context in (torch.enable_grad, torch.no_grad):
            with context(), forward_mode.dual_level():
                found = forward_mode.unpack_dual(
                    loss_of(model(forward_mode.make_dual(image.detach(), tangent)))
                ).tangent
                assert abs(found - expected) < 1e-6 * abs(expected)
            with context():
                _, found = torch.func.jvp(lambda x: loss_of(model(x)), (image.detach(),), (tangent,))
                assert abs(found - expected) < 1e-6 * abs(expected)


def forward_mode_parameters(version: int) -> None:
    model, image = build(version).double(), next(images(1)).double()
    tangents = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    grads = gradients_of(model, image)
    expected = sum((grads[n] * t).sum() for n, t in tangents.items())
    for context in (torch.enable_grad, torch.no_grad):
        with context(), forward_mode.dual_level():
            duals = {n: forward_mode.make_dual(p.detach(), tangents[n]) for n, p in model.named_parameters()}
            found = forward_mode.unpack_dual(loss_of(torch.func.functional_call(model, duals, image))).tangent
            assert abs(found - expected) < 1e-6 * abs(expected)


SUPPORTED: list[Callable[[int], None]] = [functional_call]
EXPERIMENTAL: list[Callable[[int], None]] = [
    function_gradients,
    vmapped,
    per_sample_gradients,
    ensembles,
    forward_mode_gradients,
    forward_mode_parameters,
]


@pytest.mark.filterwarnings('ignore::UserWarning', 'ignore::FutureWarning')
@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('tool', levels(SUPPORTED, EXPERIMENTAL))
def test_function_transforms_agree_with_autograd(tool: Callable[[int], None], version: int) -> None:
    tool(version)
