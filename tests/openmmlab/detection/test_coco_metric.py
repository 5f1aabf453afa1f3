"""The reported AP against an independent computation from the same files."""

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
def truth_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=1, val_count=8, crowd_share=0.5))
    return root / ANNOTATIONS


def guesses(truth: dict[str, Any], image: dict[str, Any], rng: np.random.Generator, names: list[str]) -> dict[str, Any]:
    """Right, displaced, misnamed, doubled and invented detections of one image, crowds included."""
    size = (image['height'], image['width'])
    boxes, masks, labels, scores = [], [], [], []
    for one in truth['annotations']:
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
            right_name = next(kind['name'] for kind in truth['categories'] if kind['id'] == one['category_id'])
            labels.append(names.index(right_name) if rng.random() < 0.8 else int(rng.integers(len(names))))
            scores.append(round(float(rng.random()), 1))  # many ties
    return dict(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        masks=torch.from_numpy(np.array(masks, bool).reshape(-1, *size)),
        labels=torch.tensor(labels, dtype=torch.long),
        scores=torch.tensor(scores),
    )


def run_metric(
    truth_file: Path, predictions: dict[int, Any], out: Path | None, names: list[str], **more: Any
) -> tuple[dict[str, float], CocoMetric]:
    prefix = str(out / 'results') if out else None
    options: dict[str, Any] = dict(ann_file=str(truth_file), metric=['bbox', 'segm'], outfile_prefix=prefix, **more)
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = Evaluator(dict(type='swin_backbone.CocoMetric', **options))
    evaluator.dataset_meta = dict(classes=names)
    for number, found in predictions.items():
        shape = tuple(found['masks'].shape[1:])
        sample = dict(img_id=number, ori_shape=shape, pred_instances=found, gt_instances={}, ignored_instances={})
        evaluator.metrics[0].process({}, [sample])
    return evaluator.evaluate(len(predictions)), evaluator.metrics[0]


@pytest.mark.parametrize('seed', [0, 1])
def test_average_precision_agrees_with_plain_loops(truth_file: Path, tmp_path: Path, seed: int) -> None:
    check_agreement(truth_file, tmp_path, seed)


def test_and_does_so_on_real_annotations(data_dir: Path, tmp_path: Path) -> None:
    check_agreement(data_dir / 'coco100' / ANNOTATIONS, tmp_path, seed=2)


def check_agreement(truth_file: Path, tmp_path: Path, seed: int) -> None:
    truth = json.loads(truth_file.read_text())
    assert any(one['iscrowd'] for one in truth['annotations'])
    names = [category['name'] for category in truth['categories']]
    rng = np.random.default_rng(seed)
    predictions = {image['id']: guesses(truth, image, rng, names) for image in truth['images']}
    reported, metric = run_metric(truth_file, predictions, tmp_path, names)
    for kind in ('bbox', 'segm'):
        results = json.loads((tmp_path / f'results.{kind}.json').read_text())
        expected = coco_protocol.evaluate(truth, results, kind)
        assert 0.1 < expected[f'{kind}_mAP'] < 0.9
        for name, value in expected.items():
            assert reported[f'coco/{name}'] == pytest.approx(value, abs=1e-6), name
        check_report(metric, kind, expected, len(names))


def check_report(metric: CocoMetric, kind: str, expected: dict[str, float], classes: int) -> None:
    """The tables of the report rest on the same figures."""
    table = scores_of(metric.evaluations[kind]).table()
    assert table.shape == (classes, 6)
    for column, name in enumerate(('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m')):
        assert np.nanmean(table[:, column]) == pytest.approx(expected[f'{kind}_{name}'], abs=1e-6)


def test_nothing_found_is_zero_and_not_an_error(truth_file: Path) -> None:
    truth = json.loads(truth_file.read_text())
    empty = dict(
        bboxes=torch.zeros(0, 4),
        masks=torch.zeros(0, 128, 128).bool(),
        labels=torch.zeros(0).long(),
        scores=torch.zeros(0),
    )
    predictions = {image['id']: empty for image in truth['images']}
    reported, _ = run_metric(truth_file, predictions, None, list(CLASSES))
    assert reported['coco/bbox_mAP'] == reported['coco/segm_mAP_50'] == 0.0


def perfect(truth: dict[str, Any], names: list[str], images: int | None = None) -> dict[int, Any]:
    """Detections equal to the truth."""
    found = {}
    for image in truth['images'][:images]:
        size = (image['height'], image['width'])
        own = [one for one in truth['annotations'] if one['image_id'] == image['id']]
        kinds = {category['id']: category['name'] for category in truth['categories']}
        corners = [[x, y, x + width, y + height] for x, y, width, height in (one['bbox'] for one in own)]
        masks = [coco_protocol.fill(one['segmentation'], *size) for one in own]
        found[image['id']] = dict(
            bboxes=torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
            masks=torch.from_numpy(np.array(masks, bool).reshape(-1, *size)),
            labels=torch.tensor([names.index(kinds[one['category_id']]) for one in own], dtype=torch.long),
            scores=torch.full((len(own),), 0.9),
        )
    return found


def as_it_is(number: int, one: dict[str, Any]) -> None:
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
def plain_truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp('plain') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=1, val_count=6, crowd_share=0.0))
    return dict(json.loads((root / ANNOTATIONS).read_text()))


@pytest.mark.parametrize('change', [as_it_is, from_zero, all_equal, without_id, without_crowd, without_area])
def test_a_perfect_detector_scores_one_on_any_ids(change: Any, plain_truth: dict[str, Any], tmp_path: Path) -> None:
    names = [category['name'] for category in plain_truth['categories']]
    predictions = perfect(plain_truth, names)
    content = copy.deepcopy(plain_truth)
    for number, one in enumerate(content['annotations']):
        change(number, one)
    (tmp_path / 'own.json').write_text(json.dumps(content))
    reported, _ = run_metric(tmp_path / 'own.json', predictions, None, names)
    assert reported['coco/bbox_mAP'] == pytest.approx(1.0, abs=1e-6)
    options: dict[str, Any] = dict(metainfo=dict(classes=names), data_prefix=dict(img='val2017/'), test_mode=True)
    data = CocoDataset(ann_file=str(tmp_path / 'own.json'), **options)
    boxes = {sample['img_id']: [one['bbox'] for one in sample['instances']] for sample in data}
    assert boxes == {number: found['bboxes'].tolist() for number, found in predictions.items()}


def test_a_subset_is_scored_against_itself(plain_truth: dict[str, Any], tmp_path: Path) -> None:
    names = [category['name'] for category in plain_truth['categories']]
    (tmp_path / 'own.json').write_text(json.dumps(plain_truth))
    reported, _ = run_metric(tmp_path / 'own.json', perfect(plain_truth, names, images=2), None, names)
    assert reported['coco/bbox_mAP'] == pytest.approx(1.0, abs=1e-6)


def test_other_orders_and_images_are_refused(plain_truth: dict[str, Any], tmp_path: Path) -> None:
    names = [category['name'] for category in plain_truth['categories']]
    predictions = perfect(plain_truth, names)
    content = copy.deepcopy(plain_truth)
    content['categories'].reverse()
    (tmp_path / 'order.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match=r'lists the classes as .* and the data set as'):
        run_metric(tmp_path / 'order.json', predictions, None, names)
    content = dict(plain_truth, images=plain_truth['images'][1:])
    (tmp_path / 'images.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match='is not in the annotation file of the evaluator'):
        run_metric(tmp_path / 'images.json', predictions, None, names)


def test_both_tables_of_classes_are_reported(plain_truth: dict[str, Any], tmp_path: Path) -> None:
    names = [category['name'] for category in plain_truth['categories']]
    (tmp_path / 'own.json').write_text(json.dumps(plain_truth))
    predictions = perfect(plain_truth, names)
    for found in predictions.values():
        found['masks'] = torch.zeros_like(found['masks'])
        found['masks'][:, 0, 0] = True
    reported, metric = run_metric(tmp_path / 'own.json', predictions, None, names, classwise=True)
    there = {one['category_id'] for one in plain_truth['annotations']}
    for category in plain_truth['categories']:
        if category['id'] in there:
            assert reported[f'coco/bbox_{category["name"]}_precision'] == pytest.approx(1.0, abs=1e-6)
            assert reported[f'coco/segm_{category["name"]}_precision'] == 0.0
    assert set(metric.evaluations) == {'bbox', 'segm'}


def test_no_truth_is_no_score(plain_truth: dict[str, Any], tmp_path: Path) -> None:
    names = [category['name'] for category in plain_truth['categories']]
    (tmp_path / 'own.json').write_text(json.dumps(dict(plain_truth, annotations=[])))
    reported, _ = run_metric(tmp_path / 'own.json', perfect(plain_truth, names), None, names)
    assert reported == {}


def test_the_fast_back_end_gives_the_same_numbers(truth_file: Path) -> None:
    pytest.importorskip('faster_coco_eval', reason='faster-coco-eval is not installed')
    truth, rng = json.loads(truth_file.read_text()), np.random.default_rng(3)
    names = list(CLASSES)
    predictions = {image['id']: guesses(truth, image, rng, names) for image in truth['images']}
    (slow, reference), (fast, metric) = (
        run_metric(truth_file, predictions, None, names, fast=f) for f in (False, True)
    )
    assert fast == pytest.approx(slow, abs=1e-9) and slow['coco/bbox_mAP'] > 0
    for kind in ('bbox', 'segm'):
        precision = np.asarray(metric.evaluations[kind].eval['precision'])
        assert np.abs(precision - reference.evaluations[kind].eval['precision']).max() < 1e-9
    nothing = {number: {key: value[:0] for key, value in found.items()} for number, found in predictions.items()}
    assert run_metric(truth_file, nothing, None, names, fast=True)[0]['coco/bbox_mAP'] == 0
