"""Names and units of metrics."""

import json
from pathlib import Path

from swin_backbone.evaluation.results import flatten_metrics, headline, labelled_metrics, write_summary

LOGGED = {'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_75': 0.125, 'mIoU': 50.0, 'aAcc': 75.0, 'names': ['a']}


def test_summaries_contain_fractions_without_prefixes(tmp_path: Path) -> None:
    flat = {'bbox_mAP': 0.25, 'bbox_mAP_75': 0.125, 'mIoU': 0.5, 'aAcc': 0.75}
    assert flatten_metrics(LOGGED) == flat
    assert json.loads(write_summary(str(tmp_path), LOGGED, images=3).read_text()) == {**flat, 'images': 3}


def test_metrics_have_labels_and_a_headline() -> None:
    assert labelled_metrics(LOGGED) == {'box AP': 0.25, 'box AP75': 0.125, 'mIoU': 0.5, 'pixel accuracy': 0.75}
    assert headline(LOGGED) == 'box AP 0.250, mIoU 0.500'
    assert headline({'loss': 1.0}).startswith('no scores')
