"""Mask RepPoints V2: every cell also predicts the parameters of a small network for the mask of its object."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from swin_backbone.openmmlab.detection.reppoints_v2.head import RepPointsV2Head, flatten_levels, flatten_map
from swin_backbone.registry import MODELS


@MODELS.register_module()
class MaskRepPointsV2Head(RepPointsV2Head):
    """RepPoints V2 head for use with MMDetection's ``CondInstMaskHead`` (Tian et al., ECCV 2020).

    A convolution on the point features predicts, for each cell, the parameters of the mask head's dynamic convolutions.
    Masks are trained for the cells to whose refined boxes objects are assigned. Use it in MMDetection's ``CondInst``.

    Args:
        num_params: number of parameters of the mask head.
        **options: options of :class:`RepPointsV2Head`.
    """

    def __init__(self, *args: Any, num_params: int = 169, **options: Any) -> None:
        self.num_params = num_params
        self.positive_infos: list[InstanceData] = []
        super().__init__(*args, **options)

    def _init_layers(self) -> None:
        super()._init_layers()
        self.controller = nn.Conv2d(self.feat_channels, self.num_params, 3, padding=1)

    def _extra_maps(self, pts_feat: Tensor) -> tuple[Tensor, ...]:
        """Predict the parameters of each cell ``[B, num_params, H, W]``."""
        return (self.controller(pts_feat),)

    def loss_by_feat(  # type: ignore[override]  # `forward` of this head also returns parameters
        self,
        cls_scores: Sequence[Tensor],
        pts_init: Sequence[Tensor],
        pts_refine: Sequence[Tensor],
        corner_scores: Sequence[Tensor],
        corner_offsets: Sequence[Tensor],
        sem_scores: Sequence[Tensor],
        params: Sequence[Tensor],
        batch_gt_instances: Sequence[InstanceData],
        batch_img_metas: Sequence[dict[str, Any]],
        batch_gt_instances_ignore: Sequence[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses of :class:`RepPointsV2Head`, and store the positive cells for the mask head.

        ``params`` are the parameters of the mask head's convolutions per level; the other arguments are documented
        there.
        """
        assigned = self._assign(pts_init, pts_refine, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        gt_inds, flat = assigned.refined_match.gt_inds, flatten_levels(params)
        self.positive_infos = [
            InstanceData(
                points=assigned.points[positive, :2],
                strides=assigned.points[positive, 2],
                param_preds=flat[i, positive],
                pos_assigned_gt_inds=gt_inds[i, positive] - 1,
            )
            for i, positive in enumerate(gt_inds > 0)
        ]
        maps = (cls_scores, corner_scores, corner_offsets, sem_scores)
        return self._losses(assigned, *maps, batch_gt_instances)

    def get_positive_infos(self) -> list[InstanceData]:
        """Return the positive cells of each image of the last loss, for training the mask head."""
        return self.positive_infos

    def _fields(self, maps: list[list[Tensor]], points: Tensor, cells: Tensor) -> dict[str, Tensor]:
        """Return parameters, points and strides of the cells, for the mask head."""
        (params,) = maps
        flat = torch.cat([flatten_map(level) for level in params])
        return dict(param_preds=flat[cells], points=points[cells, :2], strides=points[cells, 2])
