"""The prediction sheet that is drawn during an evaluation."""

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg', reason='MMSegmentation is not installed')
cv2 = pytest.importorskip('cv2', reason='OpenCV is not installed')

from mmengine.structures import PixelData  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

from swin_backbone.engine.hooks import PredictionSheetHook  # noqa: E402


class Sample(SegDataSample):
    """A data sample that must not be copied as a whole."""

    def cpu(self) -> Any:
        raise AssertionError('all logits would be copied')


def sample(path: Path) -> SegDataSample:
    found = Sample(metainfo=dict(img_path=str(path)))
    found.seg_logits = PixelData(data=torch.zeros(150, 60, 80))
    found.pred_sem_seg = PixelData(data=torch.zeros(1, 60, 80, dtype=torch.int64))
    found.gt_sem_seg = PixelData(data=torch.ones(1, 60, 80, dtype=torch.int64))
    return found


@pytest.mark.parametrize('rank', [0, 1])
def test_the_prediction_sheet_does_not_keep_logits(rank: int, tmp_path: Path) -> None:
    image, out_file = tmp_path / 'image.png', tmp_path / 'work' / 'predictions.png'
    cv2.imwrite(str(image), np.full((60, 80, 3), 128, np.uint8))
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=('sky', 'sea'))))
    runner: Any = SimpleNamespace(rank=rank, val_dataloader=loader)
    hook = PredictionSheetHook(out_file, count=3)
    logits = []
    for i in range(3):
        outputs = [sample(image), sample(image)]
        logits += [weakref.ref(output.seg_logits.data) for output in outputs]
        hook.after_val_iter(runner, i, outputs=outputs)
    del outputs
    gc.collect()
    assert all(kept() is None for kept in logits)
    hook.after_val_epoch(runner)
    assert out_file.is_file() == (rank == 0)
    if rank == 0:
        height = cv2.imread(str(out_file)).shape[0]
        hook.after_val_iter(runner, 0, outputs=[sample(image)])
        hook.after_val_epoch(runner)
        assert 1.9 < height / cv2.imread(str(out_file)).shape[0] < 2.1, 'three drawings in two columns, then one'
