"""The generated shapes data set: reproducibility, consistency of both layouts, and errors."""

import colorsys
import hashlib
import itertools
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from swin_backbone.datasets import generated
from swin_backbone.datasets.generated import read_data_set
from swin_backbone.datasets.shapes import (
    CLASSES,
    PALETTE,
    SEGMENTATION_CLASSES,
    SEGMENTATION_PALETTE,
    STUFF_CLASSES,
    ShapesSpec,
    background,
    inside,
    object_surface,
    render,
    write_shapes,
)
from swin_backbone.errors import InputError

Image = pytest.importorskip('PIL.Image', reason='Pillow is not installed')

SPEC = ShapesSpec(train_count=24, val_count=12, crowd_share=0.25)
SPLITS = {'train': ('training', 24), 'val': ('validation', 12)}


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob('*') if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('shapes') / 'set'
    write_shapes(root, SPEC)
    return root


@pytest.fixture(params=['train', 'val'])
def coco(request, root):
    module = pytest.importorskip('pycocotools.coco', reason='pycocotools is not installed')
    coco = module.COCO(str(root / f'annotations/instances_{request.param}2017.json'))
    coco.split = request.param
    return coco


def test_the_same_seed_gives_identical_files(root, tmp_path):
    write_shapes(tmp_path / 'again', SPEC)
    assert digests(tmp_path / 'again') == digests(root)


def test_another_seed_gives_different_images(root, tmp_path):
    write_shapes(tmp_path / 'other', replace(SPEC, seed=1))
    ours, others = digests(root), digests(tmp_path / 'other')
    assert ours.keys() == others.keys()
    assert not {ours[name] for name in ours if name.endswith('.jpg')} & set(others.values())


def test_validation_images_do_not_depend_on_the_number_of_training_images(root, tmp_path):
    write_shapes(tmp_path / 'smaller', replace(SPEC, train_count=3))
    ours, others = digests(root), digests(tmp_path / 'smaller')
    kept = [name for name in others if name != generated.SPEC_FILE and 'instances_train' not in name]
    assert {name: ours[name] for name in kept} == {name: others[name] for name in kept}


def test_no_image_is_in_both_splits(root):
    train, val = (set(digests(root / f'{split}2017').values()) for split in SPLITS)
    assert len(train) == SPEC.train_count
    assert len(val) == SPEC.val_count
    assert not train & val


def test_both_layouts_have_the_same_images(root):
    for split, (folder, count) in SPLITS.items():
        images = digests(root / f'{split}2017')
        assert images == digests(root / 'images' / folder)
        stems = {Path(name).stem for name in images}
        assert stems == {path.stem for path in (root / 'annotations' / folder).iterdir()}
        assert len(stems) == count


def test_coco_ids_are_unique_and_image_sizes_correct(coco, root):
    assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    annotations = coco.dataset['annotations']
    assert len({annotation['id'] for annotation in annotations}) == len(annotations)
    assert all(annotation['id'] > 0 for annotation in annotations)
    assert len({image['id'] for image in coco.dataset['images']}) == len(coco.imgs)
    assert {annotation['image_id'] for annotation in annotations} == set(coco.imgs)
    for image in coco.imgs.values():
        with Image.open(root / f'{coco.split}2017' / image['file_name']) as opened:
            assert opened.size == (image['width'], image['height'])
            assert opened.mode == 'RGB'


def test_coco_masks_agree_with_boxes_and_areas(coco):
    for annotation in coco.dataset['annotations']:
        mask = coco.annToMask(annotation).astype(bool)
        assert mask.sum() == annotation['area'] >= SPEC.min_visible_pixels
        left, top, width, height = annotation['bbox']
        assert mask[top : top + height, left : left + width].sum() == annotation['area']
        assert mask[top].any()
        assert mask[top + height - 1].any()
        assert mask[:, left].any()
        assert mask[:, left + width - 1].any()


def test_coco_annotations_include_polygons_run_lengths_and_crowds(coco):
    kinds = Counter((a['iscrowd'], type(a['segmentation']).__name__) for a in coco.dataset['annotations'])
    assert kinds.keys() == {(0, 'list'), (0, 'dict'), (1, 'dict')}
    assert kinds[1, 'dict'] == len(coco.imgs) * SPEC.crowd_share
    assert kinds[0, 'list'] > kinds[0, 'dict']


def test_semantic_maps_agree_with_instances(coco, root):
    folder, _ = SPLITS[coco.split]
    values = set()
    for image_id, image in coco.imgs.items():
        with Image.open(root / 'annotations' / folder / f'{Path(image["file_name"]).stem}.png') as opened:
            assert opened.mode == 'L'
            labels = np.asarray(opened)
        expected = np.zeros_like(labels)
        for annotation in coco.imgToAnns[image_id]:
            mask = coco.annToMask(annotation).astype(bool)
            assert not expected[mask].any(), 'masks overlap'
            expected[mask] = annotation['category_id']
        assert np.array_equal(np.where(labels <= len(CLASSES), labels, 0), expected)
        values |= set(np.unique(labels).tolist())
    assert values == set(range(len(SEGMENTATION_CLASSES) + 1))


def test_the_summary_has_the_counts_of_the_files(coco, root):
    counts = read_data_set(root, SPEC).counts[coco.split]
    crowds = sum(annotation['iscrowd'] for annotation in coco.dataset['annotations'])
    assert counts == {'images': len(coco.imgs), 'objects': len(coco.anns) - crowds, 'crowds': crowds}


def test_every_image_has_the_requested_number_of_objects():
    spec = ShapesSpec(objects=(3, 4), object_size=(20, 30), min_visible=0.6)
    for index in range(20):
        scene = render(np.random.default_rng(index), spec, crowd=index % 2 == 0)
        assert 3 <= sum(not instance.crowd for instance in scene.instances) <= 4
        assert sum(instance.crowd for instance in scene.instances) == (index % 2 == 0)


@pytest.mark.parametrize(('width', 'height'), [(32, 32), (33, 97), (160, 48)])
def test_any_image_size_is_supported(width, height):
    spec = ShapesSpec(width=width, height=height, objects=(1, 2), object_size=(10, 24))
    scene = render(np.random.default_rng(0), spec)
    assert scene.image.shape == (height, width, 3)
    assert scene.semantic.shape == (height, width)


def test_shapes_have_distinct_outlines():
    axis = np.linspace(-1.2, 1.2, 97)
    u, v = np.meshgrid(axis, axis)
    drawn = np.stack([inside(name, u, v) for name in CLASSES]).reshape(len(CLASSES), -1)
    shared = (drawn[:, None] & drawn).sum(-1) / (drawn[:, None] | drawn).sum(-1)
    assert (shared[~np.eye(len(CLASSES), dtype=bool)] < 0.85).all()


def test_backgrounds_are_grey_and_objects_vivid_as_requested():
    rng = np.random.default_rng(0)
    colours, _ = background(rng, ShapesSpec(muted=1.0))
    assert np.ptp(colours, axis=2).max() < 1e-9
    spec = ShapesSpec(vividness=120.0, texture=0.0)
    for kind in range(len(CLASSES)):
        assert np.ptp(object_surface(rng, colours.reshape(-1, 3)[::50], kind, spec), axis=2).min() >= 120


@pytest.mark.parametrize('families', [1, 3, 6])
def test_classes_share_hues_only_within_a_family(families):
    spec = ShapesSpec(hue_families=families, texture=0.0)
    grey = np.full((1, 3), 128.0)

    def hues(kind: int) -> set[int]:
        rng = np.random.default_rng(kind)
        colours = np.stack([object_surface(rng, grey, kind, spec)[0, 0] for _ in range(200)]) / 255
        return {int(12 * colorsys.rgb_to_hsv(*colour)[0]) for colour in colours}

    for first, second in itertools.combinations(range(len(CLASSES)), 2):
        assert bool(hues(first) & hues(second)) == (first % families == second % families)


def test_palettes_have_one_colour_per_class():
    assert SEGMENTATION_CLASSES == CLASSES + STUFF_CLASSES
    assert len(set(PALETTE)) == len(CLASSES)
    assert len(set(SEGMENTATION_PALETTE)) == len(SEGMENTATION_CLASSES)


def test_an_identical_data_set_is_not_written_again(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    assert not write_shapes(root, SPEC).written
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before


@pytest.mark.parametrize('content', ['photo.jpg', generated.SPEC_FILE])
def test_a_folder_with_other_files_is_an_error_and_unchanged(tmp_path, content):
    (tmp_path / content).write_text('mine')
    with pytest.raises(InputError, match='something other'):
        write_shapes(tmp_path, SPEC)
    assert [path.name for path in tmp_path.iterdir()] == [content]


def test_a_file_at_the_path_is_an_error(tmp_path):
    (tmp_path / 'set').write_text('mine')
    with pytest.raises(InputError, match='something other'):
        write_shapes(tmp_path / 'set', SPEC)


def test_a_data_set_with_other_options_is_an_error_with_the_difference(root):
    with pytest.raises(InputError, match=r'seed 0 instead of 5'):
        write_shapes(root, replace(SPEC, seed=5))


def test_another_format_version_is_an_error(root, tmp_path):
    marker = json.loads((root / generated.SPEC_FILE).read_text())
    (tmp_path / generated.SPEC_FILE).write_text(json.dumps({**marker, 'version': 0}))
    with pytest.raises(InputError, match='format version 0'):
        write_shapes(tmp_path, SPEC)


def test_missing_files_are_reported(tmp_path):
    spec = replace(SPEC, train_count=2, val_count=2)
    write_shapes(tmp_path / 'set', spec)
    (tmp_path / 'set/val2017/000000100001.jpg').unlink()
    with pytest.raises(InputError, match=r'is missing 1 files, the first is val2017/000000100001\.jpg'):
        read_data_set(tmp_path / 'set', spec)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / 'set').mkdir()
    assert write_shapes(tmp_path / 'set', replace(SPEC, train_count=1, val_count=1)).written


def test_an_interruption_leaves_no_files(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(generated, '_write_split', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / 'deep/set', SPEC)
    assert not list((tmp_path / 'deep').iterdir())


def test_missing_pillow_is_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'PIL.Image', None)
    with pytest.raises(InputError, match='pip install pillow'):
        write_shapes(tmp_path / 'set', SPEC)
    assert not list(tmp_path.iterdir())


def test_objects_that_do_not_fit_are_an_error():
    spec = ShapesSpec(width=64, height=64, objects=(20, 20), object_size=(60, 64), min_visible=0.9)
    with pytest.raises(InputError, match='do not fit into 64 x 64'):
        render(np.random.default_rng(0), spec)


@pytest.mark.parametrize(
    'values',
    [
        {'seed': -1},
        {'width': 16},
        {'train_count': 0},
        {'objects': (3, 2)},
        {'object_size': (16, 200)},
        {'overlap': 1.5},
        {'min_visible': 1.0},
        {'stretch': 0.5},
        {'contrast': float('nan')},
        {'crowd_size': (1, 2)},
    ],
    ids=lambda values: next(iter(values)),
)
def test_option_values_outside_their_range_are_an_error(values):
    with pytest.raises(InputError, match=next(iter(values))):
        ShapesSpec(**values)
