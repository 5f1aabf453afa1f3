"""Damaged data are reported before a run, and unreadable images during a run."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.config import Config
from mmengine.dataset import Compose
from PIL import Image

from swin_backbone.cli import outcome, test, train
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.class_check import labels_in, reads_boxes
from swin_backbone.engine.data_check import check_files
from swin_backbone.engine.error_explanations import explained
from swin_backbone.engine.loading_errors import NamingCompose
from swin_backbone.errors import InputError, RunFailure
from tests.demo_models import DETECTION, SEGMENTATION, demo_config

LOADERS = ('train_dataloader', 'val_dataloader')
TRAIN, VAL = 'annotations/instances_train2017.json', 'annotations/instances_val2017.json'
Change = Callable[[Path], Any]


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=8, val_count=2, crowd_share=0))
    return root


@pytest.fixture
def own(shapes: Path, tmp_path: Path) -> Path:
    """Return a copy of the data that a test may damage."""
    return Path(shutil.copytree(shapes, tmp_path / 'own'))


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def edit(file: str, change: Callable[[dict[str, Any]], Any]) -> Change:
    """Change an annotation file."""

    def apply(root: Path) -> None:
        content = json.loads((root / file).read_text())
        change(content)
        (root / file).write_text(json.dumps(content))

    return apply


def first(**values: Any) -> Callable[[dict[str, Any]], Any]:
    """Change the first annotation of a file."""
    return lambda content: content['annotations'][0].update(values)


def both(*changes: Change) -> Change:
    """Return a change that applies several changes."""
    return lambda root: [change(root) for change in changes]


def file_of(folder: str, root: Path) -> Path:
    """Return the first file of a folder."""
    return sorted((root / folder).iterdir())[0]


def resize(folder: str, size: tuple[int, int]) -> Change:
    """Change the size of the first image or label map of a folder."""

    def apply(root: Path) -> None:
        path = file_of(folder, root)
        with Image.open(path) as image:
            image.resize(size, Image.Resampling.NEAREST).save(path)

    return apply


def relabel(folder: str, label: int) -> Change:
    """Give a label to the first label map of a folder."""

    def apply(root: Path) -> None:
        path = file_of(folder, root)
        values = np.array(Image.open(path))
        values[:4] = label
        Image.fromarray(values).save(path)

    return apply


def cut(file: str) -> Change:
    """Truncate an annotation file."""
    return lambda root: (root / file).write_text((root / file).read_text()[:500])


def crowds(content: dict[str, Any]) -> None:
    for one in content['annotations']:
        one['iscrowd'] = 1


DETECTION_KINDS: dict[str, tuple[Change, str]] = {
    'cut off': (cut(TRAIN), 'train2017.json is truncated'),
    'cut off in val': (cut(VAL), 'val2017.json is trunc'),
    'a box in val': (edit(VAL, first(bbox=[1, 2, float('inf'), 4])), 'val2017.json has 1 annotation with a bbox that'),
    'a mask in val': (edit(VAL, first(segmentation=[])), 'val2017.json has 1 annotation without a segmentation'),
    'both files': (
        both(edit(TRAIN, first(segmentation=[])), edit(VAL, first(bbox=None))),
        'has 1 annotation with a bbox that is not four finite numbers. (--data-check none skips the check.)',
    ),
    'an absent image': (lambda root: file_of('val2017', root).unlink(), '1 image missing from'),
    'an empty image': (lambda root: file_of('train2017', root).write_bytes(b''), '1 image that cannot be read ('),
    'sizes': (resize('train2017', (64, 64)), '64x64, annotated as 128x128): write the actual sizes'),
    'only crowds': (edit(TRAIN, crowds), 'has no objects of circle, square, triangle, star, ring, cross, and images'),
    'no objects': (edit(TRAIN, lambda content: content.update(annotations=[])), 'images without objects are removed'),
}  # fmt: skip

SEGMENTATION_KINDS: dict[str, tuple[Change, str]] = {
    'a label': (relabel('annotations/training', 40), 'training has 1 label map with labels beyond the classes ('),
    'a label in val': (relabel('annotations/validation', 10), 'label 10): 9 classes have the labels 1 to 9: list al'),
    'an absent map': (lambda root: file_of('annotations/validation', root).unlink(), '1 label map missing (0000'),
    'an empty map': (lambda root: file_of('annotations/training', root).write_bytes(b''), '1 label map that cannot be'),
    'an unreadable image': (lambda root: file_of('images/training', root).write_text('x'), '1 image that cannot'),
    'a size': (resize('annotations/training', (64, 64)), '1 label map with a size that differs from the image (0000'),
    'colours': (
        lambda root: Image.new('RGB', (128, 128)).save(file_of('annotations/validation', root)),
        'is a colour image with 3 channels, but label maps have one): convert colours to class numbers',
    ),
}  # fmt: skip


@pytest.mark.parametrize('kind', DETECTION_KINDS)
def test_damaged_detection_data_raise_input_error(kind: str, own: Path) -> None:
    change, expected = DETECTION_KINDS[kind]
    change(own)
    with pytest.raises(InputError) as error:
        check_files(demo_config(DETECTION, own), LOADERS)
    assert expected in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('kind', SEGMENTATION_KINDS)
def test_damaged_segmentation_data_raise_input_error(kind: str, own: Path) -> None:
    change, expected = SEGMENTATION_KINDS[kind]
    change(own)
    config = demo_config(SEGMENTATION, own)
    with pytest.raises(InputError) as error:
        check_files(config, LOADERS)
    assert expected in str(error.value) and '\n' not in str(error.value)
    check_files(config, LOADERS, 'none')


@pytest.mark.parametrize('path', [DETECTION, SEGMENTATION])
@pytest.mark.parametrize('extent', ['sample', 'full'])
def test_undamaged_data_pass_without_warnings(
    path: Path, extent: str, shapes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_files(demo_config(path, shapes), (*LOADERS, 'test_dataloader'), extent)
    assert caplog.text == ''


def test_a_filter_that_removes_all_images_raises_input_error(shapes: Path) -> None:
    config = demo_config(DETECTION, shapes)
    config.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=True, min_size=200)
    with pytest.raises(InputError, match=r'none has a short side of at least 200 pixels \(the longest is 128\)'):
        check_files(config, LOADERS)


def test_listed_images_that_do_not_exist_raise_input_error(own: Path) -> None:
    config = demo_config(SEGMENTATION, own)
    (own / 'list.txt').write_text('000000000001\nabsent\n')
    config.train_dataloader.dataset.ann_file = 'list.txt'
    with pytest.raises(InputError, match=r'1 image that does not exist \(absent\.jpg\): .*list\.txt lists them'):
        check_files(config, LOADERS)


def test_linked_folders_are_searched(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    for kind in ('images', 'annotations'):
        (own / kind / 'training').rename(own / f'{kind}_elsewhere')
        (own / kind / 'training').mkdir()
        (own / kind / 'training' / 'part').symlink_to(own / f'{kind}_elsewhere')
    config = demo_config(SEGMENTATION, own)
    check_files(config, LOADERS)
    assert caplog.text == ''
    file_of('annotations_elsewhere', own).unlink()
    with pytest.raises(InputError, match=r'1 label map missing \(part/000000000001\.png\)'):
        check_files(config, LOADERS)


def test_masks_are_checked_only_if_they_are_read(own: Path) -> None:
    edit(VAL, first(segmentation=[[float('nan')] * 6]))(own)
    config = demo_config(DETECTION, own)
    with pytest.raises(InputError, match='NaN or infinite value in a polygon'):
        check_files(config, LOADERS)
    config.val_evaluator.metric = ['bbox']
    for step in config.val_dataloader.dataset.pipeline:
        step.pop('with_mask', None)
    check_files(config, LOADERS)


def test_sizes_ignore_exif_orientation_if_the_pipeline_does(own: Path) -> None:
    path = file_of('train2017', own)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.crop((0, 0, 128, 100)).save(path, exif=exif)

    def crop(content: dict[str, Any]) -> None:
        content['images'][0]['height'] = 100
        content['annotations'] = [
            one for one in content['annotations'] if one['image_id'] != content['images'][0]['id']
        ]

    edit(TRAIN, crop)(own)
    config = demo_config(DETECTION, own)
    with pytest.raises(InputError, match=r'1 photo rotated by EXIF orientation \(.*: 100x128, annotated as 128x100'):
        check_files(config, LOADERS)
    config.train_dataloader.dataset.pipeline[0].color_type = 'color_ignore_orientation'
    check_files(config, LOADERS)


def test_only_the_first_process_checks_files(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / TRAIN).write_text('')
    monkeypatch.setenv('RANK', '1')
    check_files(demo_config(DETECTION, own), LOADERS)


def test_colour_images_and_broken_maps_raise_input_error(tmp_path: Path) -> None:
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    with pytest.raises(InputError, match='is a colour image with 3 channels, but label maps have one'):
        labels_in(tmp_path / 'a.png')
    (tmp_path / 'a.png').write_text('x')
    with pytest.raises(InputError, match=r'a\.png cannot be read \(a damaged image\)'):
        labels_in(tmp_path / 'a.png')


@pytest.mark.parametrize(
    ('path', 'change', 'expected'),
    [
        (DETECTION, edit(TRAIN, first(segmentation=[[1, 1, 9, 9]])), 'fewer than three points'),
        (SEGMENTATION, relabel('annotations/validation', 10), 'labels beyond the classes'),
    ],
)
def test_train_reports_damaged_data_and_writes_nothing(
    path: Path, change: Change, expected: str, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(own)
    before = sorted(own.rglob('*'))
    assert outcome(train.main, [str(path), '--data-root', str(own), '--work-dir', str(tmp_path / 'run')]) == 2
    shown = capsys.readouterr().err
    assert expected in shown and 'Traceback' not in shown
    assert sorted(own.rglob('*')) == before and not (tmp_path / 'run').exists()


def test_test_reports_damaged_data_and_writes_nothing(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(VAL, first(bbox=[1, 2, 3]))(own)
    (tmp_path / 'model.pth').write_bytes(b'')
    argv = [str(DETECTION), str(tmp_path / 'model.pth'), '--data-root', str(own), '--work-dir', str(tmp_path / 'run')]
    assert outcome(test.main, argv) == 2
    assert 'val2017.json has 1 annotation with a bbox that is not four finite numbers' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


def test_reads_boxes_is_false_for_panoptic_data_sets() -> None:
    from mmdet.datasets import CocoDataset, CocoPanopticDataset

    assert reads_boxes(CocoDataset) and not reads_boxes(CocoPanopticDataset)


def pipeline(*steps: Any, **loading: Any) -> NamingCompose:
    from mmcv.transforms import LoadImageFromFile

    return NamingCompose(Compose([LoadImageFromFile(**loading), *steps]))


UNREADABLE: dict[str, tuple[bytes | None, str]] = {
    'absent': (None, 'cannot be read (not there)'),
    'empty': (b'', 'cannot be read (empty)'),
    'text': (b'x', 'cannot be read (a damaged image): replace it, remove it from the data, or set ignore_empty=True'),
}


@pytest.mark.parametrize('kind', UNREADABLE)
def test_an_unreadable_image_is_reported_or_replaced(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content, expected = UNREADABLE[kind]
    path = tmp_path / 'a.jpg'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunFailure) as error:
        pipeline()(dict(img_path=str(path)))
    assert f'image {path} {expected}' in str(error.value)
    replacing = pipeline(ignore_empty=True)
    assert replacing(dict(img_path=str(path))) is None and replacing(dict(img_path=str(path))) is None
    assert (
        caplog.text.count(f'image {path} cannot be read') == 1 and 'unreadable images in this process: 1' in caplog.text
    )


def test_a_failing_pipeline_step_names_the_image(tmp_path: Path) -> None:
    from mmseg.datasets.transforms import LoadAnnotations

    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    (tmp_path / 'map.png').write_text('x')
    data = dict(img_path=str(tmp_path / 'a.png'), seg_map_path=str(tmp_path / 'map.png'), seg_fields=[])
    with pytest.raises(RunFailure, match=r'label map .*map\.png of .*a\.png cannot be read \(a damaged image\)'):
        pipeline(LoadAnnotations())(dict(data))
    Image.new('L', (8, 8)).save(tmp_path / 'map.png')
    with pytest.raises(RunFailure, match=r'step 1 \(LoadAnnotations\) .* failed on image .*a\.png: KeyError'):
        pipeline(LoadAnnotations())(dict(data))

    def step(data: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pipeline(step)(dict(data))


def test_an_unreadable_image_during_training_ends_with_one_sentence(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is raised in a worker process, which adds its traceback."""
    file_of('train2017', own).write_bytes(b'')
    argv = [str(DETECTION), '--data-root', str(own), '--work-dir', str(tmp_path / 'run'), '--data-check', 'none']
    argv += ['--max-iters', '1', '--cfg-options', 'train_dataloader.batch_size=4', 'model.backbone.depths=(1,1,1,1)']
    assert outcome(train.main, argv) == 1
    shown = capsys.readouterr().err
    errors = [line for line in shown.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1, shown
    assert errors[0].startswith(f'error: image {file_of("train2017", own)} cannot be read (empty)')


def test_failures_in_workers_are_reported_without_traceback() -> None:
    text = 'Caught RunFailure in worker 0.\nOriginal Traceback:\n  x\nswin_backbone.errors.RunFailure: image a: bad.\n'
    with pytest.raises(RunFailure, match=r'^image a: bad\.$'), explained(Config(dict(model={}))):
        raise RunFailure(text)
