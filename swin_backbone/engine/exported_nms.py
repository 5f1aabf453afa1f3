"""Non-maximum suppression with outputs of fixed size, in PyTorch and in ONNX."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms


@torch.library.custom_op('swin_backbone::suppress', mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float) -> Tensor:
    """Apply non-maximum suppression to each group of boxes.

    Args:
        boxes: corners ``[G, N, 4]`` in pixels.
        scores: ``[G, N]``.
        iou_threshold: if two boxes overlap by more, the one with the lower score is dropped.
        score_threshold: boxes with this score or less are dropped.

    Returns:
        Whether each box is kept, ``[G, N]``.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for group in range(scores.shape[0]):
        candidates = (scores[group] > score_threshold).nonzero().squeeze(1)
        kept[group, candidates[nms(boxes[group, candidates], scores[group, candidates], iou_threshold)]] = True
    return kept


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def suppress_in_onnx(boxes: Any, scores: Any, iou_threshold: float, score_threshold: float) -> Any:
    """Translate :func:`suppress` to ONNX operators."""
    import onnxscript
    from onnx import TensorProto

    op: Any = onnxscript.opset20
    number = op.Shape(scores, start=1, end=2)
    selected = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        number,
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[score_threshold]),
    )  # [K, 3]: group, class, box
    places = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
    ones = op.Expand(op.Constant(value_ints=[1]), op.Shape(selected, start=0, end=1))
    zeros = op.Expand(op.Constant(value_ints=[0]), op.Shape(scores))
    return op.Cast(op.ScatterND(zeros, places, ones), to=TensorProto.BOOL)


ONNX_FUNCTIONS = {torch.ops.swin_backbone.suppress.default: suppress_in_onnx}
"""Custom operator -> function that :func:`swin_backbone.export.export_onnx` translates it with."""


def top_scores(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the highest scores and their indices.

    Args:
        scores: ``[B, N]``, not negative.
        count: number of outputs, which may exceed N.

    Returns:
        Scores in descending order and indices, both ``[B, count]``. Missing entries have score -1 and index 0.
    """
    # Pad, because N depends on the image size and the number of outputs must not.
    values, indices = F.pad(scores, (0, count), value=-1.0).topk(count)
    return values, indices * (values >= 0)


def gather_rows(values: Tensor, indices: Tensor) -> Tensor:
    """Gather the rows ``[B, K, C]`` of ``values [B, N, C]`` at ``indices [B, K]``."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[2]))
