"""COCO's average precision without rounding, with precision-recall curves, for real-world annotation files."""

import contextlib
import io
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset as StockCocoDataset
from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmdet.evaluation import CocoMetric as StockCocoMetric
from mmengine.fileio import get_local_path
from mmengine.logging import MMLogger

from swin_backbone.errors import InputError
from swin_backbone.registry import DATASETS, METRICS

NAMES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
"""Names of the first six metrics in the summary of COCO's protocol."""


def complete_annotations(content: dict[str, Any]) -> None:
    """Add fields that COCO's tools need and that annotation files often lack, in place.

    Annotations without ``iscrowd`` get 0, and without ``area`` get that of their box. If any id is missing, 0 or
    repeated, all are numbered from 1: pycocotools looks up annotations by id, and interprets a match with id 0 as none.
    """
    annotations = content.get('annotations', [])
    for one in annotations:
        one.setdefault('iscrowd', 0)
        if 'area' not in one and 'bbox' in one:
            one['area'] = float(one['bbox'][2]) * float(one['bbox'][3])
    ids = {one.get('id') for one in annotations}
    if len(ids) < len(annotations) or not ids.isdisjoint((None, 0, '0')):
        for number, one in enumerate(annotations, start=1):
            one['id'] = number


class CompleteCOCO(COCO):
    """MMDetection's COCO API, which completes the annotations when it reads them."""

    def createIndex(self) -> None:  # noqa: N802
        """Complete the annotations, then create the index."""
        complete_annotations(self.dataset)
        super().createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


@DATASETS.register_module()
class CocoDataset(StockCocoDataset):
    """MMDetection's data set, with support for annotations without ``iscrowd`` or ``area``, or with repeated ids."""

    COCOAPI = CompleteCOCO


@METRICS.register_module()
class CocoMetric(StockCocoMetric):
    """MMDetection's metric without rounding to three decimals, over the images that were predicted.

    The annotations are completed as in :class:`CocoDataset`. If the data set is a subset of the annotation file, images
    without predictions are skipped.

    Args:
        ann_file: the annotation file; None for that of the data set.
        args, options: see MMDetection's metric.
        sort_categories: whether to sort categories by id.
        fast: whether to use faster-coco-eval instead of pycocotools.

    Attributes:
        evaluations: COCO's evaluation objects for 'bbox' and 'segm', after the metrics are computed.
    """

    _coco_api: Any

    def __init__(
        self,
        ann_file: str | None = None,
        *args: Any,
        sort_categories: bool = False,
        fast: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(None, *args, **options)
        self.fast = fast
        if fast and find_spec('faster_coco_eval') is None:
            raise InputError('fast=True needs faster-coco-eval: run pip install faster-coco-eval, or leave fast=False.')
        self.evaluations: dict[str, COCOeval] = {}
        self._ground_truth: COCO | None = None
        if ann_file is not None:
            with get_local_path(ann_file, backend_args=self.backend_args) as path:
                self._ground_truth = self._coco_api = CompleteCOCO(path)
            if sort_categories:
                self._ground_truth.dataset['categories'].sort(key=lambda category: category['id'])

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Evaluate boxes and masks; other metrics are evaluated by MMDetection.

        Returns:
            The metrics by name; with ``classwise`` also ``<kind>_<class>_precision``. If the file has no boxes or
            masks, there are no scores for them, because COCO's -1 would look like one.
        """
        if self._ground_truth is not None and not self.format_only:
            self._coco_api = restrict_to_predicted(self._ground_truth, {image['img_id'] for image, _ in results})
        self.cat_ids = self.img_ids = None
        if self.format_only or self.metric_items or not set(self.metrics) <= {'bbox', 'segm'}:
            return super().compute_metrics(results)
        ground_truths, predictions = zip(*results, strict=True)
        with output_prefix(self.outfile_prefix) as prefix:
            if self._coco_api is None:
                self._coco_api = CompleteCOCO(self.gt_to_coco_json(gt_dicts=ground_truths, outfile_prefix=prefix))
            classes = instance_classes(self.dataset_meta)
            self.cat_ids = self._coco_api.get_cat_ids(cat_names=classes)
            check_order(self._coco_api, self.cat_ids, classes)
            self.img_ids = self._coco_api.get_img_ids()
            files = self.results2json(predictions, prefix)
            self.evaluations = {kind: self.evaluate_file(files[kind], kind) for kind in self.metrics}
        return self.collect_metrics()

    def collect_metrics(self) -> dict[str, float]:
        """Return the scores of :attr:`evaluations` by name."""
        metrics: dict[str, float] = {}
        for kind, evaluation in self.evaluations.items():
            if evaluation.stats[0] < 0:
                MMLogger.get_current_instance().warning(f'{kind}: the annotation file has none, so there is no score')
                continue
            metrics |= {f'{kind}_{name}': float(v) for name, v in zip(NAMES, evaluation.stats, strict=False)}
            if self.classwise:
                metrics |= self.log_classes(kind, evaluation)
        return metrics

    def log_classes(self, kind: str, evaluation: COCOeval) -> dict[str, float]:
        """Log a table of average precisions per class; return the mAP of each class that has objects."""
        precision = evaluation.eval['precision']  # [IoU, recall, class, area, detections]
        names = [category['name'] for category in self._coco_api.load_cats(self.cat_ids)]
        parts = [precision[..., 0, -1], precision[:1, ..., 0, -1], precision[5:6, ..., 0, -1]]
        parts += [precision[..., area, -1] for area in (1, 2, 3)]
        means = [[mean_precision(part[:, :, index]) for part in parts] for index in range(len(names))]
        width = max(map(len, names))
        rows = [f'{"":{width}}' + ''.join(f'{name:>8}' for name in NAMES)]
        rows += [
            f'{n:{width}}' + ''.join(f'{value:8.3f}' for value in row) for n, row in zip(names, means, strict=True)
        ]
        MMLogger.get_current_instance().info('\n'.join([f'{kind} of each class:', *rows]))
        values = {name: row[0] for name, row in zip(names, means, strict=True) if not np.isnan(row[0])}
        return {f'{kind}_{name.replace("/", "_")}_precision': value for name, value in values.items()}

    def evaluate_file(self, path: str, kind: str) -> COCOeval:
        """Run COCO's evaluation on a file of results; ``kind`` is 'bbox' or 'segm'."""
        predictions = json.loads(Path(path).read_text(encoding='utf-8'))
        if kind == 'segm':
            for prediction in predictions:
                # Otherwise the area of the box, not that of the mask, would decide what is small, medium or large.
                prediction.pop('bbox', None)
        report = io.StringIO()
        with contextlib.redirect_stdout(report):
            evaluation = (create_fast_evaluation if self.fast else create_evaluation)(self._coco_api, predictions, kind)
            evaluation.params.catIds, evaluation.params.imgIds = self.cat_ids, self.img_ids
            evaluation.params.maxDets, evaluation.params.iouThrs = list(self.proposal_nums), self.iou_thrs
            evaluation.evaluate()
            evaluation.accumulate()
            report.seek(0)
            report.truncate()
            evaluation.summarize()
        MMLogger.get_current_instance().info(f'{kind}:\n{report.getvalue().rstrip()}')
        return evaluation


def instance_classes(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes of a data set that have instances: the things of a panoptic one, or all classes."""
    classes = tuple(meta['classes'])
    things = tuple(meta.get('thing_classes') or ())
    return things if things and classes[: len(things)] == things else classes


def mean_precision(precision: Any) -> float:
    """Return the mean over IoUs and recalls; NaN if a class has no object."""
    return float(precision[precision > -1].mean()) if (precision > -1).any() else float('nan')


def check_order(ground_truth: COCO, categories: Sequence[Any], classes: Sequence[str]) -> None:
    """Check that the annotation file lists the classes in the order of the data set, which defines label numbers.

    Raises:
        InputError: if the file lacks a class or lists them in another order.
    """
    names = [category['name'] for category in ground_truth.load_cats(categories)]
    if names != list(classes):
        raise InputError(
            f'the annotation file lists the classes as {", ".join(names) or "none of them"}, but the data set as '
            f'{", ".join(classes)}: use the same order in both.'
        )


def restrict_to_predicted(ground_truth: COCO, predicted: Collection[Any]) -> COCO:
    """Return the annotations of the images that were predicted.

    Raises:
        InputError: if the file does not contain one of them.
    """
    content = ground_truth.dataset
    unknown = set(predicted) - {image['id'] for image in content['images']}
    if unknown:
        raise InputError(
            f'image id {next(iter(unknown))!r} of the data set is not in the annotation file of the evaluator: '
            'use the same file in both.'
        )
    part = CompleteCOCO()
    images = [image for image in content['images'] if image['id'] in predicted]
    if len(images) < len(content['images']):
        MMLogger.get_current_instance().warning(
            f'{len(images)} of the {len(content["images"])} images of the annotation file were predicted: '
            'only these are scored'
        )
    ids = {image['id'] for image in images}
    annotations = [dict(one) for one in content.get('annotations', []) if one['image_id'] in ids]
    part.dataset = {**content, 'images': images, 'annotations': annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        part.createIndex()
    return part


@contextlib.contextmanager
def output_prefix(prefix: str | None) -> Iterator[str]:
    """Yield ``prefix``, or a prefix in a temporary folder."""
    if prefix is not None:
        Path(prefix).parent.mkdir(parents=True, exist_ok=True)
        yield prefix
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / 'results')


def create_evaluation(ground_truth: COCO, predictions: Sequence[dict[str, Any]], kind: str) -> Any:
    """Create pycocotools' evaluation of predictions."""
    return COCOeval(ground_truth, load_results(ground_truth, predictions), kind)


def create_fast_evaluation(ground_truth: COCO, predictions: list[dict[str, Any]], kind: str) -> Any:
    """Create faster-coco-eval's evaluation of predictions, which gives the same numbers."""
    import faster_coco_eval

    own = faster_coco_eval.COCO(ground_truth.dataset)
    found = (
        own.loadRes(predictions) if predictions else faster_coco_eval.COCO({**ground_truth.dataset, 'annotations': []})
    )
    return faster_coco_eval.COCOeval_faster(own, found, kind)


def load_results(ground_truth: COCO, predictions: Sequence[dict[str, Any]]) -> COCO:
    """Load predictions with COCO's API, which does not support an empty list."""
    if predictions:
        return ground_truth.loadRes(predictions)
    empty = COCO()
    empty.dataset = {**ground_truth.dataset, 'annotations': []}
    empty.createIndex()
    return empty
