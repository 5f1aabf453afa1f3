"""RepPoints V2 with masks: MMDetection's dynamic mask head with our box head."""

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config

from tests.conftest import REPOSITORY
from tests.openmmlab.detection.reppoints_v2_model import batch, build, model_config, run, sample

CONFIG = REPOSITORY / 'configs/detection/_base_/mask_reppoints_v2.py'


def masked_model() -> Any:
    config, masked = model_config(), Config.fromfile(CONFIG).model
    config.type, config.mask_head = masked.type, masked.mask_head
    config.data_preprocessor.pad_mask = True
    config.mask_head.mask_feature_head.update(in_channels=32, feat_channels=16)
    config.bbox_head.update(type=masked.bbox_head.type, num_params=masked.bbox_head.num_params)
    config.test_cfg.update(mask_thr=masked.test_cfg.mask_thr, score_thr=0.0, max_per_img=7)
    torch.manual_seed(0)
    model = build(config)
    model.init_weights()
    return model


def images() -> dict[str, Any]:
    """Create images with two objects and without objects; masks fill the left half of the boxes."""
    boxes = [[[3.0, 5.0, 40.0, 50.0], [30.0, 8.0, 63.0, 60.0]], []]
    data = batch([(64, 64), (50, 90)], [sample(image) for image in boxes])
    for one, objects in zip(data['data_samples'], boxes, strict=True):
        height, width = one.img_shape
        masks = np.zeros((len(objects), height, width), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, np.array(objects, int).reshape(-1, 4), strict=True):
            mask[y1:y2, x1 : (x1 + x2) // 2] = 1
        one.gt_instances.masks = BitmapMasks(masks, height, width)
    return data


def test_training_step_reaches_every_parameter() -> None:
    model = masked_model().train()
    losses = run(model, images(), 'loss')
    assert 'loss_mask' in losses and len(losses) == 7
    assert [len(one) for one in model.bbox_head.get_positive_infos()][1] == 0
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_mask_loss_decreases_in_training() -> None:
    model = masked_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0005)
    found = []
    for _ in range(15):
        losses = run(model, images(), 'loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        found.append(losses['loss_mask'].item())
    assert min(found[-3:]) < 0.6 * found[0]


@torch.no_grad()
def test_every_detection_has_a_mask_of_the_image_size() -> None:
    model = masked_model().eval()
    for one in run(model, images(), 'predict'):
        found = one.pred_instances
        assert 0 < len(found) <= 7 and found.masks.dtype == torch.bool
        assert tuple(found.masks.shape) == (len(found), *one.ori_shape)
        assert found.param_preds.shape == (len(found), 169)
        # The parameters of a mask are those of the detected cell.
        assert set(found.strides.tolist()) <= {8.0, 16.0, 32.0, 64.0, 128.0}
        assert torch.equal(found.points % found.strides[:, None], torch.zeros(len(found), 2))
