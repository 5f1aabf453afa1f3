"""Merging instance masks that come as finished masks, without a mask head that could be asked again."""

from collections.abc import Sequence

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

SAME_INSTANCE = 0.5
"""Box IoU from which detections of one class in different views are taken for one instance."""


def vote_masks(merged: InstanceData, views: Sequence[InstanceData]) -> Tensor:
    """Masks ``[n, H, W]`` of merged instances: the pixels that at least half of the views give to the instance.

    Args:
        merged: instances chosen among those of the views.
        views: what each view found, in the coordinates of the picture; a view that lacks an instance does not vote.
    """
    votes = torch.zeros(merged.masks.shape, device=merged.masks.device)
    voters = votes.new_zeros(len(merged))
    for view in views:
        if len(view) == 0:
            continue
        overlaps = bbox_overlaps(merged.bboxes, view.bboxes)
        overlaps[merged.labels[:, None] != view.labels[None, :]] = 0.0
        overlap, partner = overlaps.max(dim=1)
        seen = overlap >= SAME_INSTANCE
        votes[seen] += view.masks[partner[seen]].float()
        voters += seen
    return votes * 2 >= voters[:, None, None].clamp(min=1)
