"""The reported AP compared with an independent computation from the same files."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope

from swin_backbone.datasets.shapes import CLASSES, ShapesSpec, write_shapes
from swin_backbone.errors import InputError
from swin_backbone.evaluation.charts import scores_of
from swin_backbone.openmmlab.detection.coco_metric import CocoDataset, CocoMetric
from tests.openmmlab.detection import coco_protocol

ANNOTATIONS = 'annotations/instances_val2017.json'


@pytest.fixture(scope='module')
def annotation_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=1, val_count=8, crowd_share=0.5))
    return root / ANNOTATIONS


def random_detections(
    ground_truth: dict[str, Any], image: dict[str, Any], rng: np.random.Generator, names: list[str]
) -> dict[str, Any]:
    """Create correct, shifted, misclassified and repeated detections of one image, including crowds."""
    size = (image['height'], image['width'])
    boxes, masks, labels, scores = [], [], [], []
    for one in ground_truth['annotations']:
        if one['image_id'] != image['id']:
            continue
        outlines = one['segmentation']
        mask = coco_protocol.fill(outlines, *size) if isinstance(outlines, list) else coco_protocol.decode(outlines)
        for _ in range(int(rng.integers(1, 4))):
            down, right = (int(step) for step in rng.integers(-5, 6, 2))
            moved = np.roll(mask, (down, right), axis=(0, 1))
            x, y, width, height = one['bbox']
            boxes.append([x + right, y + down, x + right + width * rng.uniform(0.8, 1.2), y + down + height])
            masks.append(moved)
            right_name = next(kind['name'] for kind in ground_truth['categories'] if kind['id'] == one['category_id'])
            labels.append(names.index(right_name) if rng.random() < 0.8 else int(rng.integers(len(names))))
            scores.append(round(float(rng.random()), 1))  # many ties
    return dict(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        masks=torch.from_numpy(np.array(masks, bool).reshape(-1, *size)),
        labels=torch.tensor(labels, dtype=torch.long),
        scores=torch.tensor(scores),
    )


def run_metric(
    annotation_file: Path, predictions: dict[int, Any], out: Path | None, names: list[str], **more: Any
) -> tuple[dict[str, float], CocoMetric]:
    prefix = str(out / 'results') if out else None
    options: dict[str, Any] = dict(
        ann_file=str(annotation_file), metric=['bbox', 'segm'], outfile_prefix=prefix, **more
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = Evaluator(dict(type='swin_backbone.CocoMetric', **options))
    evaluator.dataset_meta = dict(classes=names)
    for number, found in predictions.items():
        shape = tuple(found['masks'].shape[1:])
        sample = dict(img_id=number, ori_shape=shape, pred_instances=found, gt_instances={}, ignored_instances={})
        evaluator.metrics[0].process({}, [sample])
    return evaluator.evaluate(len(predictions)), evaluator.metrics[0]


@pytest.mark.parametrize('seed', [0, 1])
def test_average_precision_equals_the_protocol(annotation_file: Path, tmp_path: Path, seed: int) -> None:
    check_agreement(annotation_file, tmp_path, seed)


def test_average_precision_equals_the_protocol_on_coco(data_dir: Path, tmp_path: Path) -> None:
    check_agreement(data_dir / 'coco100' / ANNOTATIONS, tmp_path, seed=2)


def check_agreement(annotation_file: Path, tmp_path: Path, seed: int) -> None:
    ground_truth = json.loads(annotation_file.read_text())
    assert any(one['iscrowd'] for one in ground_truth['annotations'])
    names = [category['name'] for category in ground_truth['categories']]
    rng = np.random.default_rng(seed)
    predictions = {image['id']: random_detections(ground_truth, image, rng, names) for image in ground_truth['images']}
    reported, metric = run_metric(annotation_file, predictions, tmp_path, names)
    for kind in ('bbox', 'segm'):
        results = json.loads((tmp_path / f'results.{kind}.json').read_text())
        expected = coco_protocol.evaluate(ground_truth, results, kind)
        assert 0.1 < expected[f'{kind}_mAP'] < 0.9
        for name, value in expected.items():
            assert reported[f'coco/{name}'] == pytest.approx(value, abs=1e-6), name
        check_report(metric, kind, expected, len(names))


def check_report(metric: CocoMetric, kind: str, expected: dict[str, float], classes: int) -> None:
    """Check that the tables of the report have the same scores."""
    table = scores_of(metric.evaluations[kind]).table()
    assert table.shape == (classes, 6)
    for column, name in enumerate(('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m')):
        assert np.nanmean(table[:, column]) == pytest.approx(expected[f'{kind}_{name}'], abs=1e-6)


def test_no_detections_score_zero(annotation_file: Path) -> None:
    ground_truth = json.loads(annotation_file.read_text())
    empty = dict(
        bboxes=torch.zeros(0, 4),
        masks=torch.zeros(0, 128, 128).bool(),
        labels=torch.zeros(0).long(),
        scores=torch.zeros(0),
    )
    predictions = {image['id']: empty for image in ground_truth['images']}
    reported, _ = run_metric(annotation_file, predictions, None, list(CLASSES))
    assert reported['coco/bbox_mAP'] == reported['coco/segm_mAP_50'] == 0.0


def perfect(ground_truth: dict[str, Any], names: list[str], images: int | None = None) -> dict[int, Any]:
    """Create detections equal to the ground truth."""
    found = {}
    for image in ground_truth['images'][:images]:
        size = (image['height'], image['width'])
        own = [one for one in ground_truth['annotations'] if one['image_id'] == image['id']]
        kinds = {category['id']: category['name'] for category in ground_truth['categories']}
        corners = [[x, y, x + width, y + height] for x, y, width, height in (one['bbox'] for one in own)]
        masks = [coco_protocol.fill(one['segmentation'], *size) for one in own]
        found[image['id']] = dict(
            bboxes=torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
            masks=torch.from_numpy(np.array(masks, bool).reshape(-1, *size)),
            labels=torch.tensor([names.index(kinds[one['category_id']]) for one in own], dtype=torch.long),
            scores=torch.full((len(own),), 0.9),
        )
    return found


def unchanged(number: int, one: dict[str, Any]) -> None:
    pass


def from_zero(number: int, one: dict[str, Any]) -> None:
    one['id'] = number


def all_equal(number: int, one: dict[str, Any]) -> None:
    one['id'] = 1


def without_id(number: int, one: dict[str, Any]) -> None:
    del one['id']


def without_crowd(number: int, one: dict[str, Any]) -> None:
    del one['iscrowd']


def without_area(number: int, one: dict[str, Any]) -> None:
    del one['area']


@pytest.fixture(scope='module')
def plain_annotations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp('plain') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=1, val_count=6, crowd_share=0.0))
    return dict(json.loads((root / ANNOTATIONS).read_text()))


@pytest.mark.parametrize('change', [unchanged, from_zero, all_equal, without_id, without_crowd, without_area])
def test_perfect_detections_score_one_for_incomplete_annotations(
    change: Any, plain_annotations: dict[str, Any], tmp_path: Path
) -> None:
    names = [category['name'] for category in plain_annotations['categories']]
    predictions = perfect(plain_annotations, names)
    content = copy.deepcopy(plain_annotations)
    for number, one in enumerate(content['annotations']):
        change(number, one)
    (tmp_path / 'own.json').write_text(json.dumps(content))
    reported, _ = run_metric(tmp_path / 'own.json', predictions, None, names)
    assert reported['coco/bbox_mAP'] == pytest.approx(1.0, abs=1e-6)
    options: dict[str, Any] = dict(metainfo=dict(classes=names), data_prefix=dict(img='val2017/'), test_mode=True)
    data = CocoDataset(ann_file=str(tmp_path / 'own.json'), **options)
    boxes = {sample['img_id']: [one['bbox'] for one in sample['instances']] for sample in data}
    assert boxes == {number: found['bboxes'].tolist() for number, found in predictions.items()}


def test_subset_is_scored_on_its_own_images(plain_annotations: dict[str, Any], tmp_path: Path) -> None:
    names = [category['name'] for category in plain_annotations['categories']]
    (tmp_path / 'own.json').write_text(json.dumps(plain_annotations))
    reported, _ = run_metric(tmp_path / 'own.json', perfect(plain_annotations, names, images=2), None, names)
    assert reported['coco/bbox_mAP'] == pytest.approx(1.0, abs=1e-6)


def test_mismatched_class_order_or_images_raise_input_error(plain_annotations: dict[str, Any], tmp_path: Path) -> None:
    names = [category['name'] for category in plain_annotations['categories']]
    predictions = perfect(plain_annotations, names)
    content = copy.deepcopy(plain_annotations)
    content['categories'].reverse()
    (tmp_path / 'order.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match=r'lists the classes as .* but the data set as'):
        run_metric(tmp_path / 'order.json', predictions, None, names)
    content = dict(plain_annotations, images=plain_annotations['images'][1:])
    (tmp_path / 'images.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match='is not in the annotation file of the evaluator'):
        run_metric(tmp_path / 'images.json', predictions, None, names)


def test_classwise_scores_of_boxes_and_masks_are_reported(plain_annotations: dict[str, Any], tmp_path: Path) -> None:
    names = [category['name'] for category in plain_annotations['categories']]
    (tmp_path / 'own.json').write_text(json.dumps(plain_annotations))
    predictions = perfect(plain_annotations, names)
    for found in predictions.values():
        found['masks'] = torch.zeros_like(found['masks'])
        found['masks'][:, 0, 0] = True
    reported, metric = run_metric(tmp_path / 'own.json', predictions, None, names, classwise=True)
    there = {one['category_id'] for one in plain_annotations['annotations']}
    for category in plain_annotations['categories']:
        if category['id'] in there:
            assert reported[f'coco/bbox_{category["name"]}_precision'] == pytest.approx(1.0, abs=1e-6)
            assert reported[f'coco/segm_{category["name"]}_precision'] == 0.0
    assert set(metric.evaluations) == {'bbox', 'segm'}


def test_no_annotations_give_no_score(plain_annotations: dict[str, Any], tmp_path: Path) -> None:
    names = [category['name'] for category in plain_annotations['categories']]
    (tmp_path / 'own.json').write_text(json.dumps(dict(plain_annotations, annotations=[])))
    reported, _ = run_metric(tmp_path / 'own.json', perfect(plain_annotations, names), None, names)
    assert reported == {}


def test_faster_coco_eval_gives_the_same_numbers(annotation_file: Path) -> None:
    pytest.importorskip('faster_coco_eval', reason='faster-coco-eval is not installed')
    ground_truth, rng = json.loads(annotation_file.read_text()), np.random.default_rng(3)
    names = list(CLASSES)
    predictions = {image['id']: random_detections(ground_truth, image, rng, names) for image in ground_truth['images']}
    (slow, reference), (fast, metric) = (
        run_metric(annotation_file, predictions, None, names, fast=f) for f in (False, True)
    )
    assert fast == pytest.approx(slow, abs=1e-9) and slow['coco/bbox_mAP'] > 0
    for kind in ('bbox', 'segm'):
        precision = np.asarray(metric.evaluations[kind].eval['precision'])
        assert np.abs(precision - reference.evaluations[kind].eval['precision']).max() < 1e-9
    nothing = {number: {key: value[:0] for key, value in found.items()} for number, found in predictions.items()}
    assert run_metric(annotation_file, nothing, None, names, fast=True)[0]['coco/bbox_mAP'] == 0
