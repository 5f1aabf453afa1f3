"""The functions of mmcv's compiled module, implemented with torchvision's operators and PyTorch.

Names and arguments are those that ``mmcv/ops/*.py`` of mmcv 2.1 uses: results are written into buffers that the caller
allocated. Half-precision tensors are computed in float32 and rounded once. All operators run on the CPU and with CUDA,
except Soft-NMS, which runs on the CPU, as in mmcv.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    'bbox_overlaps',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'get_compiler_version',
    'get_compiling_cuda_version',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'ms_deform_attn_backward',
    'ms_deform_attn_forward',
    'nms',
    'roi_align_backward',
    'roi_align_forward',
    'roi_pool_backward',
    'roi_pool_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softnms',
]

OPERATORS = torch.ops.torchvision
COMPILE = 'pip uninstall -y mmcv-lite && MMCV_WITH_OPS=1 pip install --no-build-isolation --no-binary mmcv mmcv==2.1.0'
SOFT_NMS_MATRIX = 2048
"""Largest number of boxes for which Soft-NMS computes all pairs of overlaps at once, 16 MiB in float32."""


def missing_operator(name: str) -> Callable[..., NoReturn]:
    """Return a function that raises NotImplementedError, for an operator that is not available."""
    if name.startswith('__'):
        raise AttributeError(name)

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's operator {name!r} is not available through torchvision: compile mmcv, with `MMCV=compiled make "
            f'setup` in a checkout, or elsewhere with `{COMPILE}` (needs a C++ compiler and torch 2.13 or older).'
        )

    return fail


def to_full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast half-precision tensors to float32; return float32 and float64 tensors unchanged."""
    return tuple(t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors)


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return indices of the boxes [N, 4] to keep, by descending score; a side has ``x2 - x1 + offset`` pixels."""
    if offset:
        bboxes = torch.cat([bboxes[:, :2], bboxes[:, 2:] + offset], 1)
    bboxes, scores = to_full_precision(bboxes, scores)
    return OPERATORS.nms(bboxes, scores.to(bboxes.dtype), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Compute Soft-NMS (Bodla et al., 2017).

    Args:
        boxes: [N, 4] on the CPU.
        scores: [N].
        dets: [N, 5], filled with the selected boxes and their decayed scores in the order of selection.
        iou_threshold: smallest overlap that changes scores in methods 0 and 1.
        sigma: width of the Gaussian of method 2.
        min_score: boxes whose scores decay below this are dropped.
        method: 0 removes boxes, 1 decays scores linearly, 2 with a Gaussian.
        offset: added to the sides of the boxes.

    Returns:
        Indices of the selected boxes, [M]. Of boxes with equal scores the first one is selected first.
    """
    corners, left = (t.numpy() for t in to_full_precision(boxes, scores))
    order = np.empty(0, dtype=np.int64)
    decayed = np.empty(0, dtype=left.dtype)
    for group in _groups_apart(corners, offset):

        def factors(rows: slice, group: np.ndarray = group) -> np.ndarray:
            return _decay(corners[group[rows]], corners[group], offset, iou_threshold, sigma, method)

        picked, values = _select(left[group], factors, min_score)
        order, decayed = np.append(order, group[picked]), np.append(decayed, values)
    by_score = np.lexsort((order, -decayed))  # equal scores by index
    order, decayed = order[by_score], decayed[by_score]
    # mmcv drops boxes below the minimum after each selection, so the first box is never dropped.
    enough = decayed >= min_score
    enough[:1] = True
    index = torch.from_numpy(order[enough])
    dets[: len(index), :4] = boxes[index]
    dets[: len(index), 4] = torch.from_numpy(decayed[enough])
    return index


def _groups_apart(corners: np.ndarray, offset: int) -> list[np.ndarray]:
    """Group the boxes [N, 4] so that boxes of different groups share no column of pixels; return their indices.

    Boxes of different groups do not overlap, so they do not affect each other. ``batched_nms`` separates classes by
    moving their boxes, so each class is at least one group.
    """
    if not len(corners):
        return []
    by_left = np.argsort(corners[:, 0], kind='stable')
    right = np.maximum.accumulate(corners[by_left, 2] + offset)
    gaps = np.flatnonzero(corners[by_left[1:], 0] >= right[:-1]) + 1
    return [np.sort(group) for group in np.split(by_left, gaps)]


def _decay(
    first: np.ndarray, second: np.ndarray, offset: int, iou_threshold: float, sigma: float, method: int
) -> np.ndarray:
    """Compute the factors [M, N] on the scores of the boxes [N, 4] for each selected box of [M, 4]."""
    first = first[:, None]
    width = np.minimum(first[..., 2], second[:, 2]) - np.maximum(first[..., 0], second[:, 0]) + offset
    height = np.minimum(first[..., 3], second[:, 3]) - np.maximum(first[..., 1], second[:, 1]) + offset
    overlap = width.clip(0) * height.clip(0)
    sides = [boxes[..., 2:] - boxes[..., :2] + offset for boxes in (first, second)]
    union = sides[0].prod(-1) + sides[1].prod(-1) - overlap
    iou = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    if method == 0:
        return (iou < iou_threshold).astype(iou.dtype)
    if method == 1:
        return np.where(iou >= iou_threshold, 1 - iou, iou.dtype.type(1))
    return np.exp(-(iou * iou) / iou.dtype.type(sigma))


def _select(
    scores: np.ndarray, factors: Callable[[slice], np.ndarray], min_score: float
) -> tuple[list[int], list[float]]:
    """Select the best box repeatedly, at least one, until all scores are below ``min_score``.

    Args:
        scores: [N].
        factors: returns, for a slice of selected boxes, the factors on all scores, [boxes, N].
        min_score: see above.

    Returns:
        Indices in the order of selection, and the scores when they were selected.
    """
    table = factors(slice(None)) if len(scores) <= SOFT_NMS_MATRIX else None
    taken = np.zeros(len(scores), dtype=bool)
    order: list[int] = []
    values: list[float] = []
    while len(order) < len(scores):
        best = int(np.where(taken, -np.inf, scores).argmax())
        if order and scores[best] < min_score:
            break
        order.append(best)
        values.append(scores[best])
        taken[best] = True
        scores = scores * (table[best] if table is not None else factors(slice(best, best + 1))[0])
    return order, values


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Fill ``ious`` with intersection over union (mode 0) or over the first boxes' area (mode 1).

    Boxes are [M, 4] and [N, 4]; the result is [M, N], or [M] if ``aligned``.
    """
    first, second = to_full_precision(bboxes1, bboxes2)
    if not aligned:
        first = first[:, None]
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    overlap = (high - low + offset).clamp(min=0).prod(-1)
    area = (first[..., 2:] - first[..., :2] + offset).prod(-1)
    if mode == 0:
        area = area + (second[..., 2:] - second[..., :2] + offset).prod(-1) - overlap
    ious.copy_(overlap / area.clamp(min=offset))


def _require_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError("roi_align with pool_mode='max' is not available through torchvision: use 'avg'.")


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute RoIAlign of maps [B, C, H, W] in boxes [N, 5] (image, x1, y1, x2, y2) by averages, into ``output``."""
    _require_average(pool_mode)
    maps, boxes = to_full_precision(input, rois)
    size = (aligned_height, aligned_width)
    output.copy_(OPERATORS.roi_align(maps, boxes.to(maps.dtype), spatial_scale, *size, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute the gradient of :func:`roi_align_forward` with respect to the maps."""
    _require_average(pool_mode)
    gradient, boxes = to_full_precision(grad_output, rois)
    size = (aligned_height, aligned_width, *grad_input.shape)
    grad_input.copy_(
        OPERATORS._roi_align_backward(gradient, boxes.to(gradient.dtype), spatial_scale, *size, sampling_ratio, aligned)
    )


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute RoIPool of maps [B, C, H, W] in boxes [N, 5], into ``output`` and ``argmax`` [N, C, h, w]."""
    maps, boxes = to_full_precision(input, rois)
    values, where = OPERATORS.roi_pool(maps, boxes.to(maps.dtype), spatial_scale, pooled_height, pooled_width)
    output.copy_(values)
    argmax.copy_(where)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute the gradient of :func:`roi_pool_forward` with respect to the maps."""
    gradient, boxes = to_full_precision(grad_output, rois)
    size = (pooled_height, pooled_width, *grad_input.shape)
    grad_input.copy_(OPERATORS._roi_pool_backward(gradient, boxes.to(gradient.dtype), argmax, spatial_scale, *size))


def _sizes(options: dict[str, int]) -> tuple[int, ...]:
    """Return stride, padding and dilation (rows, columns), groups and offset groups in torchvision's order."""
    names = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
    return tuple(options[name] for name in names)


def _unmodulated(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return placeholders for the mask and the bias, which torchvision's signature requires."""
    return input.new_zeros(len(input), 1), input.new_zeros(len(weight))


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **options: int
) -> None:
    """Compute deformable convolution (Dai et al., 2017) of [B, C, H, W] into ``output`` [B, C', H', W']."""
    input, weight, offset = to_full_precision(input, weight, offset)
    mask, bias = _unmodulated(input, weight)
    output.copy_(OPERATORS.deform_conv2d(input, weight, offset, mask, bias, *_sizes(options), False))


def _deform_conv_gradients(
    grad_output: Tensor, input: Tensor, weight: Tensor, offset: Tensor, options: dict[str, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of input, weight and offset."""
    grad_output, input, weight, offset = to_full_precision(grad_output, input, weight, offset)
    mask, bias = _unmodulated(input, weight)
    gradients = OPERATORS._deform_conv2d_backward(
        grad_output, input, weight, offset, mask, bias, *_sizes(options), False
    )
    return gradients[:3]


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **options: int,
) -> None:
    """Compute the gradients of :func:`deform_conv_forward` with respect to input and offset."""
    of_input, of_weight, of_offset = _deform_conv_gradients(grad_output, input, weight, offset, options)
    grad_input.copy_(of_input)
    grad_offset.copy_(of_offset)
    # torchvision computes all three gradients together; mmcv requests that of the weight next, with the same buffer.
    columns.gradient_of_weight = of_weight  # type: ignore[attr-defined]


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float = 1,
    **options: int,
) -> None:
    """Add the gradient of :func:`deform_conv_forward` with respect to the weight to ``grad_weight``."""
    of_weight = vars(columns).pop('gradient_of_weight', None)
    if of_weight is None:
        # This gradient does not depend on the values of the weight.
        weight = torch.zeros_like(grad_weight)
        of_weight = _deform_conv_gradients(grad_output, input, weight, offset, options)[1]
    grad_weight.add_(of_weight, alpha=scale)


def _modulated_sizes(options: dict[str, int]) -> tuple[int, ...]:
    names = ('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w', 'group', 'deformable_group')
    return tuple(options[name] for name in names)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **options: int,
) -> None:
    """Compute modulated deformable convolution (Zhu et al., 2019) of [B, C, H, W] into ``output`` [B, C', H', W']."""
    input, weight, bias, offset, mask = to_full_precision(input, weight, bias, offset, mask)
    bias = bias if with_bias else input.new_zeros(len(weight))
    output.copy_(OPERATORS.deform_conv2d(input, weight, offset, mask, bias, *_modulated_sizes(options), True))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **options: int,
) -> None:
    """Compute the gradients of :func:`modulated_deform_conv_forward`."""
    grad_output, input, weight, bias, offset, mask = to_full_precision(grad_output, input, weight, bias, offset, mask)
    bias = bias if with_bias else input.new_zeros(len(weight))
    gradients = OPERATORS._deform_conv2d_backward(
        grad_output, input, weight, offset, mask, bias, *_modulated_sizes(options), True
    )
    buffers = [grad_input, grad_weight, grad_offset, grad_mask, grad_bias]
    for buffer, gradient in zip(buffers if with_bias else buffers[:-1], gradients, strict=False):
        buffer.copy_(gradient)


def _focal_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    classes = logits.shape[1]
    # Index `classes` is the background, whose row is zero.
    one_hot = F.one_hot(target, classes + 1)[:, :classes].to(logits.dtype)
    probability = logits.sigmoid()
    focus = torch.where(one_hot > 0, alpha * (1 - probability) ** gamma, (1 - alpha) * probability**gamma)
    loss = focus * F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none')
    return loss * weight[target][:, None] if weight.numel() else loss


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the focal loss (Lin et al., 2017) of logits [N, C] and classes [N] in 0..C into ``output`` [N, C]."""
    logits, weight = to_full_precision(input, weight)
    output.copy_(_focal_loss(logits, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the gradient of the sum of :func:`sigmoid_focal_loss_forward` with respect to the logits."""
    logits, weight = to_full_precision(input, weight)
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        loss = _focal_loss(leaf, target, weight, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(loss, leaf)[0])


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Compute multi-scale deformable attention (Zhu et al., 2021) with mmcv's PyTorch implementation."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, value_spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Compute the gradients of :func:`ms_deform_attn_forward`."""
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in (value, sampling_locations, attention_weights)]
        output = ms_deform_attn_forward(
            leaves[0], value_spatial_shapes, value_level_start_index, leaves[1], leaves[2], im2col_step
        )
    gradients = torch.autograd.grad(output, leaves, grad_output)
    for buffer, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True):
        buffer.copy_(gradient)


def get_compiler_version() -> str:
    """Return the compiler that mmcv reports."""
    return f'none (operators of torchvision {torchvision.__version__})'


def get_compiling_cuda_version() -> str:
    """Return the CUDA version that mmcv reports."""
    return torch.version.cuda or 'not available'
