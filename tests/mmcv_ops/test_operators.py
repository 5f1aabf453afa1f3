"""mmcv's operators through torchvision, called by mmcv's own functions and compared with loops in Python."""

import itertools
import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip('mmcv')
import swin_backbone.registry  # noqa: F401  provides the operators before mmcv.ops is imported

ops = pytest.importorskip('mmcv.ops')
extension = sys.modules['mmcv._ext']
through_torchvision = pytest.mark.skipif(hasattr(extension, '__file__'), reason='mmcv has its own compiled operators')
HALF = [torch.float16, torch.bfloat16]


def random_boxes(count: int, size: float = 40.0) -> Tensor:
    corner = torch.rand(count, 2) * size
    return torch.cat([corner, corner + torch.rand(count, 2) * size / 2 + 0.5], 1)


def distinct_scores(count: int) -> Tensor:
    return (torch.randperm(count) + 1) / (count + 1)


def iou(a: list[float], b: list[float], offset: int = 0) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    union = sum(areas) - w * h
    return w * h / union if union > 0 else 0.0


def loop_nms(boxes: Tensor, scores: Tensor, threshold: float, offset: int) -> list[int]:
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all(iou(boxes[i].tolist(), boxes[j].tolist(), offset) <= threshold for j in kept):
            kept.append(i)
    return kept


def loop_soft_nms(
    boxes: Tensor, scores: Tensor, threshold: float, sigma: float, minimum: float, method: str, offset: int
) -> tuple[list[int], list[float]]:
    left = dict(enumerate(scores.tolist()))
    order, values = [], []
    while left:
        best = max(left, key=lambda i: (left[i], -i))
        order.append(best)
        values.append(left.pop(best))
        for i in list(left):
            overlap = iou(boxes[best].tolist(), boxes[i].tolist(), offset)
            if method == 'gaussian':
                left[i] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                left[i] *= 0.0 if method == 'naive' else 1 - overlap
            if left[i] < minimum:
                del left[i]
    return order, values


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.1, 0.5])
@pytest.mark.parametrize('count', [0, 1, 60])
def test_nms(count: int, threshold: float, offset: int) -> None:
    boxes, scores = random_boxes(count), distinct_scores(count)
    dets, kept = ops.nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == loop_nms(boxes, scores, threshold, offset)
    assert torch.equal(dets, torch.cat([boxes[kept], scores[kept, None]], 1))


@through_torchvision
def test_nms_prefers_the_first_of_equal_scores() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [20, 20, 29, 29]])
    assert ops.nms(boxes, torch.full((3,), 0.5), 0.5)[1].tolist() == [0, 2]


@pytest.mark.parametrize('dtype', HALF)
def test_nms_in_half_precision_equals_float32(dtype: torch.dtype) -> None:
    boxes, scores = random_boxes(40).to(dtype), distinct_scores(40).to(dtype)
    assert ops.nms(boxes, scores, 0.5)[1].tolist() == loop_nms(boxes.float(), scores.float(), 0.5, 0)


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize(
    ('count', 'minimum', 'offset'), [(0, 0.001, 0), (1, 0.9, 0), (60, 0.001, 0), (60, 0.3, 1), (60, 0.0, 0)]
)
def test_soft_nms(count: int, minimum: float, offset: int, method: str) -> None:
    boxes, scores = random_boxes(count, 60), distinct_scores(count)
    dets, kept = ops.soft_nms(boxes, scores, 0.3, 0.5, minimum, method, offset)
    order, values = loop_soft_nms(boxes, scores, 0.3, 0.5, minimum, method, offset)
    assert torch.allclose(dets[:, 4], torch.tensor(values), atol=1e-6)
    assert torch.equal(dets[:, :4], boxes[kept])
    if minimum or method == 'gaussian':  # the order of boxes with a score of zero is undefined
        assert kept.tolist() == order


def test_soft_nms_never_drops_the_first_box() -> None:
    """The other box is dropped, because its score is below the minimum, although it overlaps nothing."""
    boxes = torch.tensor([[0.0, 0, 9, 9], [100, 100, 109, 109]])
    assert ops.soft_nms(boxes, torch.tensor([0.01, 0.02]), min_score=0.1)[1].tolist() == [1]


@through_torchvision
def test_soft_nms_in_rows_equals_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from swin_backbone.mmcv_ops import operators

    boxes, scores = random_boxes(80), distinct_scores(80)
    table = ops.soft_nms(boxes, scores, method='gaussian')
    monkeypatch.setattr(operators, 'SOFT_NMS_MATRIX', 0)
    rows = ops.soft_nms(boxes, scores, method='gaussian')
    assert all(torch.equal(a, b) for a, b in zip(table, rows, strict=True))


@through_torchvision
def test_soft_nms_supports_boxes_without_area() -> None:
    boxes = torch.tensor([[3.0, 3, 3, 3], [3, 3, 3, 3], [0, 0, 9, 9]])
    dets, kept = ops.soft_nms(boxes, torch.tensor([0.5, 0.4, 0.3]), method='gaussian')
    assert kept.tolist() == [0, 1, 2]
    assert torch.equal(dets[:, 4], torch.tensor([0.5, 0.4, 0.3]))


@pytest.mark.parametrize('kind', ['nms', 'soft_nms'])
def test_batched_nms_treats_classes_separately(kind: str) -> None:
    boxes, scores, labels = random_boxes(60), distinct_scores(60), torch.arange(60) % 3
    dets, kept = ops.batched_nms(boxes, scores, labels, dict(type=kind, iou_threshold=0.5))
    apart = {}
    for label in range(3):
        own = (labels == label).nonzero()[:, 0]
        found, index = getattr(ops, kind)(boxes[own], scores[own], 0.5)
        apart.update(zip(own[index].tolist(), found[:, 4].tolist(), strict=True))
    assert set(kept.tolist()) == set(apart)
    assert torch.allclose(dets[:, 4], torch.tensor([apart[i] for i in kept.tolist()]), atol=1e-5)
    assert dets[:, 4].diff().le(0).all()


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_bbox_overlaps(mode: str, offset: int) -> None:
    first, second = random_boxes(7), random_boxes(5)
    found = ops.bbox_overlaps(first, second, mode, offset=offset)
    for i, j in itertools.product(range(7), range(5)):
        a, b = first[i].tolist(), second[j].tolist()
        value = iou(a, b, offset)
        if mode == 'iof':
            area = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
            value = value / (1 + value) * sum(area) / area[0]
        assert found[i, j].item() == pytest.approx(value, rel=1e-5)
    assert torch.equal(ops.bbox_overlaps(first[:5], second, mode, True, offset), found[:5].diagonal())
    assert ops.bbox_overlaps(first[:0], second).shape == (0, 5)


def sample(plane: Tensor, y: float, x: float) -> float:
    """Interpolate bilinearly; zero outside, but the border value within one pixel of it."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = (y - top if top < height - 1 else 0.0), (x - left if left < width - 1 else 0.0)
    upper = plane[top, left] * (1 - dx) + plane[top, right] * dx
    lower = plane[bottom, left] * (1 - dx) + plane[bottom, right] * dx
    return float(upper * (1 - dy) + lower * dy)


def loop_roi_align(maps: Tensor, rois: Tensor, size: int, scale: float, ratio: int, aligned: bool) -> Tensor:
    result = maps.new_zeros(len(rois), maps.shape[1], size, size)
    for n, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * scale - 0.5 * aligned for c in corners)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        rows = ratio or max(math.ceil(height / size), 1)
        columns = ratio or max(math.ceil(width / size), 1)
        for c, i, j in itertools.product(range(maps.shape[1]), range(size), range(size)):
            total = sum(
                sample(
                    maps[int(image), c],
                    y1 + (i + (a + 0.5) / rows) * height / size,
                    x1 + (j + (b + 0.5) / columns) * width / size,
                )
                for a in range(rows)
                for b in range(columns)
            )
            result[n, c, i, j] = total / (rows * columns)
    return result


def random_rois(count: int) -> Tensor:
    """Return boxes of two images, one partly outside and one far outside."""
    rois = torch.cat([torch.arange(count)[:, None] % 2, random_boxes(count, 30)], 1)
    rois[0, 1:] = torch.tensor([-6.0, -3.0, 50.0, 60.0])
    rois[1, 1:] = torch.tensor([200.0, 200.0, 220.0, 230.0])
    return rois


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align(ratio: int, aligned: bool) -> None:
    maps, rois = torch.randn(2, 2, 9, 11).double(), random_rois(6).double()
    found = ops.roi_align(maps, rois, 3, 0.25, ratio, 'avg', aligned)
    assert torch.allclose(found, loop_roi_align(maps, rois, 3, 0.25, ratio, aligned), atol=1e-9)
    leaf = maps.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.roi_align(x, rois, 3, 0.25, ratio, 'avg', aligned), (leaf,))


@through_torchvision
@pytest.mark.parametrize('dtype', HALF)
def test_roi_align_in_half_precision_rounds_once(dtype: torch.dtype) -> None:
    maps, rois = torch.randn(2, 3, 9, 11).to(dtype).requires_grad_(), random_rois(5)
    found = ops.roi_align(maps, rois, 3, 0.25, 0, 'avg', True)
    exact = maps.detach().float().requires_grad_()
    wanted = ops.roi_align(exact, rois, 3, 0.25, 0, 'avg', True)
    assert torch.equal(found, wanted.to(dtype))
    found.sum().backward()
    wanted.sum().backward()
    assert torch.equal(maps.grad, exact.grad.to(dtype))


def test_roi_align_supports_no_boxes() -> None:
    maps = torch.randn(1, 2, 5, 5, requires_grad=True)
    found = ops.roi_align(maps, torch.zeros(0, 5), 3, 1.0, 0, 'avg', True)
    assert found.shape == (0, 2, 3, 3)
    found.sum().backward()
    assert not maps.grad.any()


@through_torchvision
def test_roi_align_with_max_raises_not_implemented_error() -> None:
    with pytest.raises(NotImplementedError, match="pool_mode='max' is not available"):
        ops.roi_align(torch.randn(1, 1, 5, 5), torch.tensor([[0.0, 0, 0, 4, 4]]), 2, 1.0, 0, 'max', True)


@through_torchvision
def test_roi_pool() -> None:
    maps, rois = torch.randn(2, 2, 8, 9).double(), torch.tensor([[0.0, 0, 0, 7, 5], [1, 2, 1, 6, 7]]).double()
    found = ops.roi_pool(maps, rois, 2, 1.0)
    for n, (image, x1, y1, x2, y2) in enumerate(rois.int().tolist()):
        region = maps[image, :, y1 : y2 + 1, x1 : x2 + 1]
        for i, j in itertools.product(range(2), range(2)):
            height, width = region.shape[1:]
            rows = slice(math.floor(i * height / 2), math.ceil((i + 1) * height / 2))
            columns = slice(math.floor(j * width / 2), math.ceil((j + 1) * width / 2))
            assert torch.equal(found[n, :, i, j], region[:, rows, columns].amax((1, 2)))
    assert torch.autograd.gradcheck(lambda x: ops.roi_pool(x, rois, 2, 1.0), (maps.requires_grad_(),))


def zero_outside(plane: Tensor, y: float, x: float) -> float:
    """Interpolate bilinearly with zeros outside, as deformable convolution does."""
    total = 0.0
    for row, column in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
        if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
            total += float(plane[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def loop_deform_conv(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    stride: int,
    pad: int,
    dilation: int,
    groups: int,
    deform: int,
) -> Tensor:
    out, per_group, k, _ = weight.shape
    height, width = offset.shape[-2:]
    result = x.new_zeros(len(x), out, height, width)
    for b, o, i, j in itertools.product(range(len(x)), range(out), range(height), range(width)):
        for c, u, v in itertools.product(range(per_group), range(k), range(k)):
            channel = o // (out // groups) * per_group + c
            tap = channel // (x.shape[1] // deform) * k * k + u * k + v
            dy, dx = offset[b, 2 * tap, i, j], offset[b, 2 * tap + 1, i, j]
            value = zero_outside(
                x[b, channel], float(i * stride - pad + u * dilation + dy), float(j * stride - pad + v * dilation + dx)
            )
            result[b, o, i, j] += weight[o, c, u, v] * value * (1 if mask is None else mask[b, tap, i, j])
    return result


CONVOLUTIONS = [
    # stride, padding, dilation, groups, offset groups, height, width
    (1, 1, 1, 1, 1, 5, 4),
    (2, 1, 1, 2, 2, 5, 6),
    (1, 2, 2, 1, 2, 6, 5),
    (1, 1, 1, 1, 1, 2, 2),  # smaller than the kernel
]


def convolution_inputs(case: tuple[int, ...], modulated: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    stride, pad, dilation, groups, deform, height, width = case
    size = [(n + 2 * pad - 2 * dilation - 1) // stride + 1 for n in (height, width)]
    x = torch.randn(2, 4, height, width).double()
    # Away from the grid points, where bilinear interpolation is not differentiable.
    offset = (
        torch.randint(-2, 2, (2, 2 * deform * 9, *size)) + 0.2 + 0.6 * torch.rand(2, 2 * deform * 9, *size).double()
    )
    mask = torch.rand(2, deform * 9, *size).double() if modulated else None
    return x, offset, mask, torch.randn(4, 4 // groups, 3, 3).double()


@pytest.mark.parametrize('case', CONVOLUTIONS)
def test_deform_conv(case: tuple[int, ...]) -> None:
    if case[5] < 3 and hasattr(extension, '__file__'):
        pytest.skip('the compiled mmcv does not support inputs smaller than the kernel')
    x, offset, _, weight = convolution_inputs(case, False)
    options = (*case[:5], False)
    found = ops.deform_conv2d(x, offset, weight, *options)
    assert torch.allclose(found, loop_deform_conv(x, offset, None, weight, *case[:5]))
    leaves = tuple(t.requires_grad_() for t in (x, offset, weight))
    assert torch.autograd.gradcheck(lambda *t: ops.deform_conv2d(*t, *options), leaves)


def test_deform_conv_accumulates_the_weight_gradient() -> None:
    x, offset, _, weight = convolution_inputs(CONVOLUTIONS[0], False)
    weight.requires_grad_()
    found = ops.deform_conv2d(x, offset, weight, *CONVOLUTIONS[0][:5], False)
    found.sum().backward(retain_graph=True)
    once = weight.grad.clone()
    found.sum().backward()
    assert once.any()
    assert torch.allclose(weight.grad, 2 * once)


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize('case', CONVOLUTIONS)
def test_modulated_deform_conv(case: tuple[int, ...], with_bias: bool) -> None:
    x, offset, mask, weight = convolution_inputs(case, True)
    bias = torch.randn(4).double() if with_bias else None
    found = ops.modulated_deform_conv2d(x, offset, mask, weight, bias, *case[:5])
    wanted = loop_deform_conv(x, offset, mask, weight, *case[:5])
    assert torch.allclose(found, wanted if bias is None else wanted + bias[:, None, None])
    leaves = tuple(t.requires_grad_() for t in (x, offset, mask, weight, bias) if t is not None)
    assert torch.autograd.gradcheck(
        lambda *t: ops.modulated_deform_conv2d(*t[:4], t[4] if with_bias else None, *case[:5]), leaves
    )


@through_torchvision
@pytest.mark.parametrize('make', [ops.DeformConv2dPack, ops.ModulatedDeformConv2dPack])
def test_deform_conv_supports_autocast(make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    module = make(4, 4, 3, padding=1)
    nn.init.normal_(module.conv_offset.weight, std=0.1)
    x = torch.randn(2, 4, 7, 9)
    with torch.autocast('cpu', torch.bfloat16):
        found = module(x)
    found.float().sum().backward()
    assert (found.float() - module(x)).abs().max() < 0.05 * module(x).abs().max()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in module.parameters())


@through_torchvision
@pytest.mark.parametrize('weighted', [True, False])
def test_sigmoid_focal_loss(weighted: bool) -> None:
    logits, target = torch.randn(6, 3).double(), torch.tensor([0, 1, 2, 1, 0, 2] if weighted else [0, 1, 2, 3, 3, 0])
    weight = torch.rand(3).double() if weighted else None
    found = ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, weight, 'none')
    for i, c in itertools.product(range(6), range(3)):
        p = 1 / (1 + math.exp(-logits[i, c]))
        true = target[i] == c
        value = -0.25 * (1 - p) ** 2 * math.log(p) if true else -0.75 * p**2 * math.log(1 - p)
        assert found[i, c].item() == pytest.approx(value * (1 if weight is None else weight[target[i]].item()))
    leaf = logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.sigmoid_focal_loss(x, target, 2.0, 0.25, weight, 'mean'), (leaf,))


@through_torchvision
def test_multi_scale_deformable_attention() -> None:
    """Sampling locations are in 0..1 of each level, with pixel centres at half pixels and zeros outside."""
    shapes = torch.tensor([[4, 5], [2, 3]])
    starts = torch.tensor([0, 20])
    value, weights = torch.randn(2, 26, 2, 3).double(), torch.rand(2, 4, 2, 2, 2).double()
    places = torch.rand(2, 4, 2, 2, 2, 2).double() * 1.2 - 0.1
    attention = ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply
    found = attention(value, shapes, starts, places, weights, 64)
    for b, q, h, d in itertools.product(range(2), range(4), range(2), range(3)):
        total = 0.0
        for level, point in itertools.product(range(2), range(2)):
            height, width = shapes[level].tolist()
            plane = value[b, starts[level] : starts[level] + height * width, h, d].view(height, width)
            x, y = places[b, q, h, level, point].tolist()
            total += weights[b, q, h, level, point].item() * zero_outside(plane, y * height - 0.5, x * width - 0.5)
        assert found[b, q, h * 3 + d].item() == pytest.approx(total)
    leaves = tuple(t.requires_grad_() for t in (value, places, weights))
    assert torch.autograd.gradcheck(lambda v, p, w: attention(v, shapes, starts, p, w, 64), leaves)


@through_torchvision
def test_missing_operator_raises_an_error_with_the_command() -> None:
    with pytest.raises(NotImplementedError, match=r"'carafe_forward' is not available.*MMCV=compiled make setup"):
        extension.carafe_forward(torch.zeros(1))
    with pytest.raises(AttributeError):
        _ = extension.__file__


def test_versions_are_strings() -> None:
    assert isinstance(ops.get_compiler_version(), str)
    assert isinstance(ops.get_compiling_cuda_version(), str)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


def test_compiled_module_takes_precedence(tmp_path) -> None:
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').touch()
    (tmp_path / 'mmcv' / '_ext.py').write_text('compiled = True')
    found = python(
        f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n'
        'from swin_backbone.mmcv_ops import install_mmcv_ops\ninstall_mmcv_ops()\ninstall_mmcv_ops()\n'
        'import mmcv._ext\nfinders = [f for f in sys.meta_path if "mmcv_ops" in type(f).__module__]\n'
        'print(mmcv._ext.compiled, len(finders))'
    )
    assert found == 'True 1'


@through_torchvision
def test_import_of_the_package_installs_no_finder() -> None:
    found = python(
        'import sys, swin_backbone; print({"mmcv", "torchvision"} & set(sys.modules) or None, len(sys.meta_path))'
    )
    assert found.startswith('None ')
    assert int(found.split()[1]) == int(python('import sys, torch; print(len(sys.meta_path))'))


def test_toolkits_can_be_imported_after_the_registry() -> None:
    assert python('import swin_backbone.registry\nimport mmdet.apis, mmseg.apis\nprint("fine")').endswith('fine')
