"""Losses of RepPoints V2 that MMDetection does not have."""

import torch
import torch.nn.functional as F
from mmdet.models.losses.utils import weighted_loss
from torch import Tensor, nn

from swin_backbone.registry import MODELS


@weighted_loss
def pixel_giou_loss(pred: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """Compute 1 - generalised IoU (Rezatofighi et al., CVPR 2019) of boxes that include their last pixel.

    Widths and heights are ``x2 - x1 + 1``, as before MMDetection 2. RepPoints V2 uses boxes in units of four strides,
    so this makes every box one unit longer, and the loss differs from the current ``GIoULoss``.

    Args:
        pred: ``[N, 4]``, (x1, y1, x2, y2).
        target: ``[N, 4]``, (x1, y1, x2, y2).
        eps: added to both divisors.

    Returns:
        ``[N]``, or a mean by MMDetection's ``reduction`` and ``avg_factor``.
    """

    def area(corners: Tensor) -> Tensor:
        return (corners[:, 2:] - corners[:, :2] + 1).prod(dim=1)

    def clamped_area(top_left: Tensor, bottom_right: Tensor) -> Tensor:
        return (bottom_right - top_left + 1).clamp(min=0).prod(dim=1)

    overlap = clamped_area(torch.max(pred[:, :2], target[:, :2]), torch.min(pred[:, 2:], target[:, 2:]))
    union = area(pred) + area(target) - overlap + eps
    hull = clamped_area(torch.min(pred[:, :2], target[:, :2]), torch.max(pred[:, 2:], target[:, 2:])) + eps
    return 1 - (overlap / union - (hull - union) / hull)


@MODELS.register_module()
class PixelGIoULoss(nn.Module):
    """Module form of :func:`pixel_giou_loss`.

    Args:
        eps: added to both divisors.
        loss_weight: factor of the loss.
    """

    def __init__(self, eps: float = 1e-6, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.eps = eps
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: float = 1) -> Tensor:
        """Return the weighted sum over boxes ``[N, 4]``, divided by ``avg_factor``."""
        if weight is not None and weight.dim() > 1:
            weight = weight.mean(dim=1)
        return self.loss_weight * pixel_giou_loss(pred, target, weight, eps=self.eps, avg_factor=avg_factor)


@MODELS.register_module()
class SeparateFocalLoss(nn.Module):
    """Focal loss (Lin et al., ICCV 2017) of semantic maps, which averages positives and negatives separately.

    Positives are weighted and divided by the sum of their weights, so that large objects do not dominate. Negatives are
    not weighted, and divided by the number of positives.

    Args:
        gamma: power of the modulating factor.
        alpha: weight of the positives.
        loss_weight: factor of the loss.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Compute the loss of logits.

        Args:
            pred: ``[N]`` logits.
            target: ``[N]``, true for positives.
            weight: ``[N]``, used for positives.

        Returns:
            A scalar.
        """
        negative = F.logsigmoid(-pred) * pred.sigmoid() ** self.gamma
        loss = (1 - self.alpha) * -negative.masked_fill(target, 0).sum() / target.sum().clamp(min=1)
        pred, weight = pred[target], weight[target]
        positive = F.logsigmoid(pred) * (-pred).sigmoid() ** self.gamma
        loss = loss + self.alpha * -(positive * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
        return self.loss_weight * loss
