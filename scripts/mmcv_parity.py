"""Compare the replacements of mmcv's operators by torchvision with a compiled mmcv: values, gradients and time.

Each side runs in its own environment on the same inputs; `make mmcv-parity` runs both:

    .venv-compiled/bin/python scripts/mmcv_parity.py save FILE
    .venv/bin/python scripts/mmcv_parity.py check FILE
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import swin_backbone.registry  # noqa: F401  provides the operators if mmcv has none
from swin_backbone.mmcv_ops import mmcv_operators

TOLERANCE = 1e-5
ROUNDS = 15


class Recorder:
    """Results and median times in milliseconds by name; all inputs are generated from one seed."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.results: dict[str, Tensor] = {}
        self.times: dict[str, float] = {}

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def boxes(self, count: int, size: float = 800) -> Tensor:
        corner = self.rand(count, 2) * size
        return torch.cat([corner, corner + self.rand(count, 2) * size / 4 + 1], 1)

    def scores(self, count: int) -> Tensor:
        """Return distinct scores, because the order of equal ones is not defined."""
        return (torch.randperm(count, generator=self.generator) + 0.5) / max(count, 1)

    def timed(self, name: str, call: Callable[[], Any]) -> Any:
        result = call()
        samples = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            call()
            samples.append(time.perf_counter() - start)
        self.times[name] = statistics.median(samples) * 1e3
        return result


def suppression(record: Recorder, ops: Any) -> None:
    for count in (0, 1, 50, 1000, 4000):
        boxes, scores = record.boxes(count), record.scores(count)
        for threshold in (0.3, 0.5, 0.7):
            for offset in (0, 1):
                name = f'nms, {count} boxes, threshold {threshold}, offset {offset}'
                record.results[name] = ops.nms(boxes, scores, threshold, offset=offset)[1]
        labels = torch.arange(count) % 7
        if count:
            record.results[f'batched_nms, {count} boxes'] = torch.cat(
                [t.flatten() for t in ops.batched_nms(boxes, scores, labels, dict(type='nms', iou_threshold=0.5))]
            )
        if 0 < count <= 1000:
            for method in ('naive', 'linear', 'gaussian'):
                dets, kept = ops.soft_nms(boxes, scores, 0.3, 0.5, 1e-3, method)
                record.results[f'soft_nms {method}, {count} boxes, dets'] = dets
                record.results[f'soft_nms {method}, {count} boxes, indices'] = kept
    record.timed('nms, 4000 boxes', lambda: ops.nms(boxes, scores, 0.5))
    small, few = record.boxes(1000), record.scores(1000)
    record.timed('soft_nms linear, 1000 boxes', lambda: ops.soft_nms(small, few, 0.5, method='linear'))
    record.timed('soft_nms gaussian, 1000 boxes', lambda: ops.soft_nms(small, few, 0.5, method='gaussian'))
    many, labels = record.boxes(20000), torch.arange(20000) % 80
    settings = dict(type='soft_nms', iou_threshold=0.5, min_score=1e-3)
    scores = record.scores(20000)
    record.timed('soft_nms, 20000 boxes of 80 classes', lambda: ops.batched_nms(many, scores, labels, settings))


def pooling(record: Recorder, ops: Any) -> None:
    rois = torch.cat([(torch.arange(512) % 2).float()[:, None], record.boxes(512)], 1)
    for aligned in (True, False):
        for sampling in (0, 2):
            name = f'roi_align, {"aligned" if aligned else "legacy"}, sampling {sampling}'
            maps = (record.rand(2, 8, 50, 76) - 0.5).requires_grad_()
            found = ops.roi_align(maps, rois, 7, 1 / 16, sampling, 'avg', aligned)
            found.backward(record.rand(*found.shape))
            record.results[name], record.results[f'{name}, gradient'] = found.detach(), maps.grad
    maps = record.rand(2, 256, 50, 76).requires_grad_()
    record.timed('roi_align, 512 boxes, forward', lambda: ops.roi_align(maps, rois, 7, 1 / 16, 0, 'avg', True))
    record.timed(
        'roi_align, 512 boxes, forward and backward',
        lambda: ops.roi_align(maps, rois, 7, 1 / 16, 0, 'avg', True).sum().backward(),
    )
    # The compiled mmcv has no CPU implementation of roi_pool and bbox_overlaps.


def convolution(record: Recorder, ops: Any) -> None:
    kinds = {
        'deform_conv': lambda: ops.DeformConv2dPack(8, 12, 3, padding=1, deform_groups=2, bias=False),
        'deform_conv, stride 2, dilation 2, groups 2': lambda: ops.DeformConv2dPack(
            8, 12, 3, stride=2, padding=2, dilation=2, groups=2, bias=False
        ),
        'modulated_deform_conv': lambda: ops.ModulatedDeformConv2dPack(8, 12, 3, padding=1, deform_groups=2),
    }
    for name, make in kinds.items():
        module = make()
        for parameter in module.parameters():
            parameter.data = (record.rand(*parameter.shape) - 0.5) * 0.6
        for height, width in ((23, 31), (5, 6)):
            x = (record.rand(4, 8, height, width) - 0.5).requires_grad_()
            module.zero_grad()
            found = module(x)
            found.backward(record.rand(*found.shape) - 0.5)
            case = f'{name}, {height}x{width}'
            record.results[case], record.results[f'{case}, gradient of input'] = found.detach(), x.grad
            for part, parameter in module.named_parameters():
                record.results[f'{case}, gradient of {part}'] = parameter.grad.clone()
    x = record.rand(1, 256, 50, 76)
    for name, make in (('deform_conv', ops.DeformConv2dPack), ('modulated_deform_conv', ops.ModulatedDeformConv2dPack)):
        module = make(256, 256, 3, padding=1, bias=False)

        def forward(module: Any = module) -> Tensor:
            return module(x)

        def both(module: Any = module) -> None:
            module(x).sum().backward()

        record.timed(f'{name}, 256 channels, 50x76, forward', forward)
        record.timed(f'{name}, 256 channels, 50x76, forward and backward', both)


def measure() -> Recorder:
    """Return all results of this environment."""
    import mmcv.ops

    record = Recorder()
    for part in (suppression, pooling, convolution):
        part(record, mmcv.ops)
    return record


def difference(found: Tensor, wanted: Tensor) -> float:
    """Return the relative norm of the difference; infinity if the shapes differ."""
    if found.shape != wanted.shape:
        return float('inf')
    return float((found.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-12))


def main() -> None:
    action, file = sys.argv[1:]
    torch.set_num_threads(2)
    record = measure()
    if action == 'save':
        torch.save((mmcv_operators(), record.results, record.times), file)
        return
    name, wanted, times = torch.load(file)
    errors = {key: difference(record.results[key], value) for key, value in wanted.items()}
    bad = {key: error for key, error in errors.items() if not error < TOLERANCE}
    worst = max(errors, key=errors.__getitem__)
    print(f'{len(errors) - len(bad)} of {len(errors)} equal; worst relative difference {errors[worst]:.1e} ({worst})\n')
    print(f'| operator | {name}, ms | {mmcv_operators()}, ms |\n|---|--:|--:|')
    for key, value in times.items():
        print(f'| {key} | {value:.2f} | {record.times[key]:.2f} |')
    if bad:
        sys.exit(f'different: {bad}')


if __name__ == '__main__':
    main()
