"""The network of RepPoints V2's head: towers, verification branches and the two sets of points."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmcv.ops import DeformConv2d
from mmdet.models.dense_heads import RepPointsHead
from mmdet.registry import MODELS
from torch import Tensor, nn

from swin_backbone.openmmlab.detection.reppoints_v2.corner import CornerFeature

# Two corner scores and two corner offsets (x, y), concatenated to the features.
CORNER_CHANNELS = 6
PRIOR = {'type': 'Normal', 'std': 0.01, 'bias_prob': 0.01}


class RepPointsV2Network(RepPointsHead):
    """Layers of RepPoints V2 (Chen et al., NeurIPS 2020), as in the published Swin-T model.

    Two towers compute class and point features. A convolution after the point tower computes features for two
    verification tasks: the classes that cover a cell (logits for training, and an embedding that is added to all
    features), and the cells with corners of boxes. Corner logits and offsets are concatenated to the features, which
    two deformable convolutions sample at the first set of points, to predict classes and the refined set of points. A
    box is spanned by points 0 (top-left) and 1 (bottom-right), in units of the stride from the cell's first pixel.
    Parameter names are the published ones.

    Args:
        num_classes: classes without background.
        in_channels: channels of every map.
        loss_cls: a quality focal loss; called with ``(labels, qualities)``.
        loss_bbox_init: loss of the first boxes, in units of ``point_base_scale`` strides.
        loss_bbox_refine: loss of the refined boxes, in the same units.
        loss_heatmap: loss of corner probabilities.
        loss_offset: loss of corner offsets.
        loss_sem: loss of the semantic maps.
        feat_channels: channels of towers and verification branches.
        point_feat_channels: channels of the point features.
        stacked_convs: convolutions of each tower.
        shared_stacked_convs: convolutions of the shared features.
        corner_dim: channels of a corner-pooled branch.
        num_points: points of an object, the square of an odd number.
        gradient_mul: factor on the gradient of the first points through the sampling positions.
        point_strides: pixels between cells, per level.
        point_base_scale: size of an object in strides of its level, the unit of box losses.
        norm_cfg: norm of all convolutions.
        train_cfg: ``init`` and ``refine`` with an ``assigner`` each, and ``heatmap`` with ``gaussian_iou``, the overlap
            that determines the radius of corners in heat maps.
        test_cfg: ``nms_pre``, ``score_thr``, ``nms``, ``max_per_img``, as in MMDetection's heads.
        init_cfg: initialiser.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        loss_cls: dict[str, Any],
        loss_bbox_init: dict[str, Any],
        loss_bbox_refine: dict[str, Any],
        loss_heatmap: dict[str, Any],
        loss_offset: dict[str, Any],
        loss_sem: dict[str, Any],
        feat_channels: int = 256,
        point_feat_channels: int = 256,
        stacked_convs: int = 3,
        shared_stacked_convs: int = 1,
        corner_dim: int = 64,
        num_points: int = 9,
        gradient_mul: float = 0.1,
        point_strides: Sequence[int] = (8, 16, 32, 64, 128),
        point_base_scale: int = 4,
        norm_cfg: dict[str, Any] | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        # MMDetection's constructor builds the layers.
        self.shared_stacked_convs = shared_stacked_convs
        self.corner_dim = corner_dim
        super().__init__(
            num_classes,
            in_channels,
            point_feat_channels=point_feat_channels,
            num_points=num_points,
            gradient_mul=gradient_mul,
            point_strides=point_strides,
            point_base_scale=point_base_scale,
            loss_cls=loss_cls,
            loss_bbox_init=loss_bbox_init,
            loss_bbox_refine=loss_bbox_refine,
            transform_method='exact_minmax',
            feat_channels=feat_channels,
            stacked_convs=stacked_convs,
            norm_cfg=norm_cfg or {'type': 'GN', 'num_groups': 32, 'requires_grad': True},
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg or _initialiser(),
        )
        self.loss_heatmap = MODELS.build(loss_heatmap)
        self.loss_offset = MODELS.build(loss_offset)
        self.loss_sem = MODELS.build(loss_sem)

    def _init_layers(self) -> None:
        super()._init_layers()
        channels, norm_cfg = self.feat_channels, self.norm_cfg
        self.shared_convs = nn.Sequential(
            *(ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg) for _ in range(self.shared_stacked_convs))
        )
        self.reppoints_sem_out = nn.Conv2d(channels, self.cls_out_channels, 1)
        self.reppoints_sem_embedding = ConvModule(channels, channels, 1, norm_cfg=norm_cfg)
        self.hem_tl = CornerFeature(channels, self.corner_dim, ('top', 'left'), norm_cfg)
        self.hem_br = CornerFeature(channels, self.corner_dim, ('bottom', 'right'), norm_cfg)
        self.reppoints_hem_tl_score_out = nn.Conv2d(channels, 1, 3, padding=1)
        self.reppoints_hem_br_score_out = nn.Conv2d(channels, 1, 3, padding=1)
        self.reppoints_hem_tl_offset_out = nn.Conv2d(channels, 2, 3, padding=1)
        self.reppoints_hem_br_offset_out = nn.Conv2d(channels, 2, 3, padding=1)
        sampled = (channels + CORNER_CHANNELS, self.point_feat_channels, self.dcn_kernel, 1, self.dcn_pad)
        self.reppoints_cls_conv = DeformConv2d(*sampled)
        self.reppoints_pts_refine_conv = DeformConv2d(*sampled)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute all predictions of one level ``[B, in_channels, H, W]``.

        Returns:
            Maps ``[B, ..., H, W]``: class logits, first points and refined points ((y, x) of each point), corner logits
            (top-left, bottom-right), corner offsets ((x, y) of each) and semantic logits.
        """
        cls_feat = pts_feat = x
        for cls_conv, reg_conv in zip(self.cls_convs, self.reg_convs, strict=True):
            cls_feat, pts_feat = cls_conv(cls_feat), reg_conv(pts_feat)
        shared = self.shared_convs(pts_feat)
        embedding = self.reppoints_sem_embedding(shared)
        cls_feat, pts_feat = cls_feat + embedding, pts_feat + embedding
        heat, offset = self._corners(shared + embedding)
        hidden = self.relu(self.reppoints_pts_init_conv(pts_feat))
        # Coordinates need float32, and mmcv's deformable convolution does not support bfloat16.
        with _without_autocast(x):
            corners = torch.cat((heat, offset), dim=1)
            features = (hidden, torch.cat((cls_feat, corners), dim=1), torch.cat((pts_feat, corners), dim=1))
            points = self._points(*(feature.to(self.reppoints_cls_conv.weight) for feature in features))
        return *points, heat, offset, self.reppoints_sem_out(shared), *self._extra_maps(pts_feat)

    def _extra_maps(self, pts_feat: Tensor) -> tuple[Tensor, ...]:
        """Compute additional maps from the point features; subclasses override this."""
        return ()

    def _corners(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute corner logits ``[B, 2, H, W]`` and offsets ``[B, 4, H, W]``."""
        top_left, bottom_right = self.hem_tl(x), self.hem_br(x)
        heat = (self.reppoints_hem_tl_score_out(top_left), self.reppoints_hem_br_score_out(bottom_right))
        offset = (self.reppoints_hem_tl_offset_out(top_left), self.reppoints_hem_br_offset_out(bottom_right))
        return torch.cat(heat, dim=1), torch.cat(offset, dim=1)

    def _points(self, hidden: Tensor, cls_feat: Tensor, pts_feat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute class logits, first points and refined points."""
        first = self.reppoints_pts_init_out(hidden)
        places = self.gradient_mul * first + (1 - self.gradient_mul) * first.detach()
        places = places - self.dcn_base_offset.to(first)
        scores = self.reppoints_cls_out(self.relu(self.reppoints_cls_conv(cls_feat, places)))
        moves = self.reppoints_pts_refine_out(self.relu(self.reppoints_pts_refine_conv(pts_feat, places)))
        return scores, first, first.detach() + moves


def _initialiser() -> dict[str, Any]:
    """Return the initialiser: small weights, and a low prior probability for mostly negative logits."""
    rare = ('reppoints_cls_out', 'reppoints_hem_tl_score_out', 'reppoints_hem_br_score_out', 'reppoints_sem_out')
    return {
        'type': 'Normal',
        'layer': ['Conv2d', 'DeformConv2d'],
        'std': 0.01,
        'override': [{**PRIOR, 'name': name} for name in rare],
    }


def _without_autocast(x: Tensor) -> Any:
    """Disable autocast on devices that support it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
