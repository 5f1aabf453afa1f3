"""COCO's average precision to full precision, with the curves behind it."""

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmdet.evaluation import CocoMetric as StockCocoMetric
from mmengine.logging import MMLogger

from swin_backbone.registry import METRICS

NAMES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
"""The first six figures that COCO's protocol summarises, in its order."""


@METRICS.register_module()
class CocoMetric(StockCocoMetric):
    """MMDetection's metric without its rounding to three decimals.

    Attributes:
        evaluations: per 'bbox' and 'segm', COCO's own evaluation with its arrays, once the metrics are computed.
    """

    _coco_api: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.evaluations: dict[str, COCOeval] = {}

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Evaluate boxes and masks; anything else is left to MMDetection."""
        if self.format_only or self.classwise or self.metric_items or not set(self.metrics) <= {'bbox', 'segm'}:
            return super().compute_metrics(results)
        truths, predictions = zip(*results, strict=True)
        with prefix_or_temporary(self.outfile_prefix) as prefix:
            if self._coco_api is None:
                self._coco_api = COCO(self.gt_to_coco_json(gt_dicts=truths, outfile_prefix=prefix))
            self.cat_ids = self._coco_api.get_cat_ids(cat_names=self.dataset_meta['classes'])
            self.img_ids = self._coco_api.get_img_ids()
            files = self.results2json(predictions, prefix)
            self.evaluations = {kind: self.evaluate_file(files[kind], kind) for kind in self.metrics}
        return {
            f'{kind}_{name}': float(value)
            for kind, evaluation in self.evaluations.items()
            for name, value in zip(NAMES, evaluation.stats, strict=False)
        }

    def evaluate_file(self, path: str, kind: str) -> COCOeval:
        """Run COCO's evaluation on a file of results; ``kind`` is 'bbox' or 'segm'."""
        predictions = json.loads(Path(path).read_text(encoding='utf-8'))
        if kind == 'segm':
            for prediction in predictions:
                # With a box, its area and not the mask's would decide what is small, medium or large.
                prediction.pop('bbox', None)
        report = io.StringIO()
        with contextlib.redirect_stdout(report):
            evaluation = COCOeval(self._coco_api, load_results(self._coco_api, predictions), kind)
            evaluation.params.catIds, evaluation.params.imgIds = self.cat_ids, self.img_ids
            evaluation.params.maxDets, evaluation.params.iouThrs = list(self.proposal_nums), self.iou_thrs
            evaluation.evaluate()
            evaluation.accumulate()
            report.seek(0)
            report.truncate()
            evaluation.summarize()
        MMLogger.get_current_instance().info(f'{kind}:\n{report.getvalue().rstrip()}')
        return evaluation


@contextlib.contextmanager
def prefix_or_temporary(prefix: str | None) -> Iterator[str]:
    """``prefix``, or one in a folder that is gone afterwards."""
    if prefix is not None:
        Path(prefix).parent.mkdir(parents=True, exist_ok=True)
        yield prefix
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / 'results')


def load_results(truth: COCO, predictions: list[dict[str, Any]]) -> COCO:
    """Predictions as COCO's API wants them; it cannot load none."""
    if predictions:
        return truth.loadRes(predictions)
    empty = COCO()
    empty.dataset = {**truth.dataset, 'annotations': []}
    empty.createIndex()
    return empty
