"""PyTorch's tools work with a backbone: hooks, parametrizations, pruning, averaging, checkpointing and others."""

import copy
import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from swin_backbone import SwinTransformer
from swin_backbone.backbones.blocks import SwinBlock
from tests.backbones.small_backbone import (
    LARGE,
    MODES,
    SIZES,
    assert_same_gradients,
    assert_same_maps,
    build,
    gradients_of,
    images,
    levels,
)
from tests.helpers import randomize, relative_error


def linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear]


def forward_hooks(version: int) -> None:
    """Check that hooks on all modules see the same calls in every mode."""
    model, found = build(version), {}
    seen: list[tuple[str, tuple[int, ...]]] = []
    for name, module in model.named_modules():
        module.register_forward_hook(
            lambda _, inputs, out, name=name: seen.append((name, tuple(out.shape) if isinstance(out, Tensor) else ()))
        )
    image = next(images())
    for training in (True, False):
        for mode, context in MODES.items():
            seen.clear()
            with context():
                model.train(training)(image)
            found[mode, training] = list(seen)
    first = found['gradients', True]
    lists = (nn.ModuleList,)
    assert {name for name, _ in first} == {n for n, m in model.named_modules() if not isinstance(m, lists)}
    assert all(calls == first for calls in found.values())


def single_hooks(version: int) -> None:
    """Check that a hook on a single module sees the same calls in every mode."""
    model, image = build(version).eval(), next(images())
    for name, module in model.layers[0].named_modules():
        if isinstance(module, nn.ModuleList) or name.startswith('blocks.0'):
            continue
        calls = {}
        for mode, context in MODES.items():
            seen: list[tuple[int, ...]] = []
            handle = module.register_forward_hook(
                lambda _, inputs, out, seen=seen: seen.append(tuple(out.shape) if isinstance(out, Tensor) else ())
            )
            with context():
                model(image)
            handle.remove()
            calls[mode] = seen
        assert calls['gradients'] and calls['gradients'] == calls['no_grad'] == calls['inference'], (name, calls)


def global_hooks(version: int) -> None:
    model, image = build(version).eval(), next(images(1))
    found = {}
    for mode, context in MODES.items():
        seen: list[tuple[Any, ...]] = []
        handle = nn.modules.module.register_module_forward_hook(
            lambda m, inputs, out, seen=seen: seen.append(
                (type(m).__name__, tuple(out.shape) if isinstance(out, Tensor) else ())
            )
        )
        with context():
            model(image)
        handle.remove()
        found[mode] = seen
    assert found['gradients'] == found['no_grad'] == found['inference']


def backward_hooks(version: int) -> None:
    model, plain, seen = build(version), build(version), []
    for _, module in linears(model):
        module.register_full_backward_hook(lambda m, gin, gout: seen.append(m))
    assert_same_gradients(model, plain)
    assert len(seen) == 2 * len(linears(model))


class LowRank(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Linear(linear.in_features, 2, bias=False)
        self.up = nn.Linear(2, linear.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.up(self.down(x))

    def merged(self) -> nn.Linear:
        linear = copy.deepcopy(self.linear)
        linear.weight.data += self.up.weight.data @ self.down.weight.data
        return linear


class Around(nn.Module):
    """A wrapper without attributes weight and bias."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def wrapped_linears(version: int) -> None:
    model = build(version)
    merged = copy.deepcopy(model)
    for name, module in linears(model):
        wrapped = LowRank(module)
        model.set_submodule(name, wrapped)
        merged.set_submodule(name, wrapped.merged())
    assert_same_maps(model, merged)
    for image in images():
        assert all(grad is not None and grad.any() for grad in gradients_of(model, image).values())


def wrapped_everything(version: int) -> None:
    model, plain = build(version), build(version)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear | nn.LayerNorm | nn.Conv2d | nn.GELU | nn.Dropout):
            model.set_submodule(name, Around(module))
    assert_same_maps(model, plain)
    assert_same_gradients(model, plain)


def parametrized(version: int) -> None:
    model, plain = build(version), build(version)
    for _, module in linears(model):
        parametrizations.weight_norm(module)
    parametrizations.weight_norm(model.patch_embed.proj)
    assert_same_maps(model, plain)
    for image in images():
        assert all(grad is not None for grad in gradients_of(model, image).values())
    other = randomize(copy.deepcopy(model))
    other.load_state_dict(model.state_dict())
    assert_same_maps(other, plain)


def spectral(version: int) -> None:
    model = build(version)
    for _, module in linears(model):
        parametrizations.spectral_norm(module)
    model.eval()
    other = copy.deepcopy(model)
    other.load_state_dict(model.state_dict())
    for mode in MODES.values():
        with mode():
            for image in images():
                for a, b in zip(model(image), other(image), strict=True):
                    assert relative_error(a, b) < 1e-5
                assert relative_error(model(image)[0].clone(), build(version).eval()(image)[0]) > 1e-3


def pruned(version: int) -> None:
    model, plain = build(version), build(version)
    for (_, module), (_, twin) in zip(linears(model), linears(plain), strict=True):
        prune.l1_unstructured(module, 'weight', 0.5)
        twin.weight.data *= module.weight_mask
    assert_same_maps(model, plain)
    for image in images():
        assert all(grad is not None for grad in gradients_of(model, image).values())
    other = build(version)
    for _, module in linears(other):
        prune.identity(module, 'weight')
    other.load_state_dict(model.state_dict())
    assert_same_maps(other, plain)
    for _, module in linears(model):
        prune.remove(module, 'weight')
    assert_same_maps(model, plain)


def quantized(version: int) -> None:
    model = build(version).eval()
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    fresh = torch.ao.quantization.quantize_dynamic(build(version), {nn.Linear}, dtype=torch.qint8)
    for p in fresh.parameters():
        p.data.add_(1.0)
    fresh.load_state_dict(small.state_dict())
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            for image in images():
                for a, b, c in zip(small(image), fresh(image), model(image), strict=True):
                    assert torch.equal(a, b) and relative_error(a, c) < 0.2


def threads(version: int) -> None:
    model, image = build(version).eval(), next(images(1))
    with torch.no_grad():
        expected = model(image)
    results: list[Any] = []

    def work() -> None:
        with torch.no_grad():
            results.append(model(image))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    for maps in results:
        assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))


def meta_then_assign(version: int) -> None:
    plain = build(version)
    with torch.device('meta'):
        model = SwinTransformer(**SIZES, version=version)
    outs = model(torch.randn(1, 3, *LARGE, device='meta'))
    assert outs[0].is_meta
    model.load_state_dict(plain.state_dict(), assign=True)
    assert_same_maps(model, plain)


def averages_through_data(version: int) -> None:
    teacher, student = build(version).eval(), randomize(build(version))
    with torch.no_grad():
        teacher(next(images()))
    for ours, reference in zip(teacher.parameters(), student.parameters(), strict=True):
        ours.data.copy_(reference.data)
    assert_same_maps(teacher, student)


def averaged_model(version: int) -> None:
    student = build(version)
    averaged = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    averaged.update_parameters(student)
    assert_same_maps(averaged, student)


def checkpoint_wrappers(version: int) -> None:
    model, plain = build(version), build(version)
    apply_activation_checkpointing(model, check_fn=lambda m: isinstance(m, SwinBlock))
    model.load_state_dict(model.state_dict())
    assert_same_maps(model, plain)
    assert_same_gradients(model, plain)


def empty_batches(version: int) -> None:
    model = build(version)
    for training in (True, False):
        model.train(training)
        for context in MODES.values():
            for image in images(1):
                with context():
                    outs, like = model(image[:0]), model(image)
                    assert [o.shape for o in outs] == [(0, *o.shape[1:]) for o in like]
    for image in images(1):
        model.zero_grad()
        sum(o.sum() for o in model(image[:0])).backward()
        assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def channels_last(version: int) -> None:
    model = build(version)
    for net in (model, copy.deepcopy(model).to(memory_format=torch.channels_last)):
        for context in MODES.values():
            for image in images():
                with context():
                    plain = net(image)
                    last = net(image.to(memory_format=torch.channels_last))
                assert all(o.is_contiguous() for o in plain)
                assert all(o.is_contiguous(memory_format=torch.channels_last) for o in last)
                for a, b in zip(plain, last, strict=True):
                    assert relative_error(a, b) < 1e-5


def feature_extractor(version: int) -> None:
    feature_extraction = pytest.importorskip('torchvision.models.feature_extraction')
    with pytest.raises(ValueError, match=r'torch\.fx cannot trace this backbone'):
        feature_extraction.create_feature_extractor(build(version), {'layers.0': 'a'})


def pickled(version: int) -> None:
    model = build(version)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert_same_maps(torch.load(file, weights_only=False), model)


SUPPORTED: list[Callable[[int], None]] = [
    forward_hooks,
    single_hooks,
    global_hooks,
    backward_hooks,
    wrapped_linears,
    wrapped_everything,
    parametrized,
    spectral,
    pruned,
    threads,
    meta_then_assign,
    averages_through_data,
    averaged_model,
    checkpoint_wrappers,
    empty_batches,
    channels_last,
    feature_extractor,
    pickled,
]
EXPERIMENTAL: list[Callable[[int], None]] = [
    quantized,
]


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::UserWarning', 'ignore::FutureWarning')
@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('tool', levels(SUPPORTED, EXPERIMENTAL))
def test_pytorch_tools_work_with_a_backbone(tool: Callable[[int], None], version: int) -> None:
    tool(version)
