"""Non-maximum suppression with outputs of a fixed size, in PyTorch and in ONNX."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms


@torch.library.custom_op('swin_backbone::suppress', mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float) -> Tensor:
    """Find which boxes survive, in each group on its own.

    Args:
        boxes: corners ``[G, N, 4]``, in pixels.
        scores: ``[G, N]``.
        iou_threshold: of two boxes that overlap by more, the one of the lower score is dropped.
        score_threshold: boxes of this score or less are dropped.

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
    """:func:`suppress` in ONNX's operators."""
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
"""What :func:`swin_backbone.export.export_onnx` writes for operators that ONNX does not have."""


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sort by score and cut.

    Args:
        scores: ``[B, N]``, none below 0.
        count: how many are wanted, which may be more than N.

    Returns:
        Scores and indices ``[B, count]``, the highest score first. Where there are fewer, the score is -1 and the index
        0.
    """
    # The number of scores depends on the size of the image, and the number of outputs must not.
    values, indices = F.pad(scores, (0, count), value=-1.0).topk(count)
    return values, indices * (values >= 0)


def take(values: Tensor, indices: Tensor) -> Tensor:
    """Rows ``[B, K, C]`` of ``[B, N, C]`` at ``[B, K]``."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[2]))
