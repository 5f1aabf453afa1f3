"""Checks before a run: one sentence, exit code 2 and no output files for invalid input; and the dry run."""

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
from PIL import Image

from swin_backbone.cli import outcome, predict, test, train
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine import model_check
from swin_backbone.engine.class_check import check_classes, check_ground_truth
from swin_backbone.engine.class_names import set_head_classes
from swin_backbone.engine.error_explanations import explained
from swin_backbone.engine.train import describe_whole
from swin_backbone.engine.type_check import check_types
from swin_backbone.errors import InputError, RunFailure
from tests.demo_models import DETECTION, SEGMENTATION, build_model, demo_config
from tests.model_zoo import counted_configs

LOADERS = ('train_dataloader', 'val_dataloader')
CLASSES = ('circle', 'square', 'triangle', 'star', 'ring', 'cross')


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=6, val_count=3))
    return root


@pytest.fixture(autouse=True)
def unchanged_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def error_of(command: Any, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must exit with code 2, and return its message."""
    assert outcome(command.main, argv) == 2
    shown = capsys.readouterr().err
    assert 'Traceback' not in shown
    lines = [line for line in shown.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1
    return lines[0]


CONFIG_OPTIONS = {
    'unknown type': ('model.neck.type=FPNN', "model.neck: there is no type 'FPNN': did you mean 'FPN'?"),
    'unknown key': ('model.neck.num_out=5', "model.neck (FPN) does not accept 'num_out': did you mean 'num_outs'?"),
    'a part that is no dict': ('model.neck=3', 'model.neck is 3: give a dict with a type'),
    'a value': ('model.backbone.window_size=0', 'model.backbone (swin_backbone.SwinTransformer): window_size must be'),
    'a step': ('train_dataloader.dataset.pipeline.2.type=RandomFlipp', "pipeline.2: there is no type 'RandomFlipp'"),
    "a step's key": ('train_dataloader.dataset.pipeline.2.probb=1', "pipeline.2 (RandomFlip) does not accept 'probb'"),
    'a data set': (
        'train_dataloader.dataset.metainf=1',
        "(CocoDataset) does not accept 'metainf': did you mean 'metainfo'?",
    ),
    'a sampler': ('train_dataloader.sampler.type=DefaultSample', "did you mean 'DefaultSampler'?"),
    'an optimizer': ('optim_wrapper.optimizer.type=AdamV', "optim_wrapper.optimizer: there is no type 'AdamV'"),
    "an optimizer's key": (
        'optim_wrapper.optimizer.lrr=1',
        "optimizer (AdamW) does not accept 'lrr': did you mean 'lr'?",
    ),
    'a hook': ('default_hooks.checkpoint.type=ChekpointHook', "did you mean 'CheckpointHook'?"),
    "a hook's key": ('default_hooks.checkpoint.max_keep_ckpt=3', "did you mean 'max_keep_ckpts'?"),
    'a metric': ('val_evaluator.type=CocoMetrik', "val_evaluator: there is no type 'CocoMetrik'"),
    'a schedule': ('param_scheduler.0.type=LinearL', "param_scheduler.0: there is no type 'LinearL'"),
    'an index': (
        'train_dataloader.dataset.pipeline.9.type=X',
        '--cfg-options train_dataloader.dataset.pipeline.9.type',
    ),
    'a path': ('model.backbone.depths.0.x=1', '--cfg-options model.backbone.depths.0.x does not fit'),
    'batch size': (
        'train_dataloader.batch_size=0',
        'train_dataloader.batch_size must be an integer of at least 1, got 0',
    ),
    'workers': ('train_dataloader.num_workers=-1', 'num_workers must be an integer of at least 0, got -1'),
    'negative rate': ('optim_wrapper.optimizer.lr=-1', 'optim_wrapper.optimizer.lr must be a number above 0, got -1'),
    'rate nan': ('optim_wrapper.optimizer.lr=nan', 'lr must be a number above 0, got nan'),
    'accumulation': ('optim_wrapper.accumulative_counts=0', 'accumulative_counts must be an integer of at least 1'),
    'load_from': ('load_from=absent/model.pth', 'load_from absent/model.pth does not exist'),
    'neck': ('model.neck.in_channels=[256,512,1024,2048]', 'set model.neck.in_channels=[32,64,128,256]'),
    'out_indices': (
        'model.backbone.out_indices=(1,2,3)',
        'outputs [64, 128, 256] channels: set model.neck.in_channels=[64,128,256]',
    ),
    'head behind the neck': ('model.rpn_head.in_channels=256', 'model.neck (FPN) outputs 64 channels: set model.rpn'),
    'image channels': ('model.backbone.in_channels=4', 'model.backbone.in_channels is 4, but LoadImageFromFile in'),
    'number of classes': ('model.roi_head.mask_head.num_classes=80', 'has 80 classes, but the data set has 6 (circle'),
    'classes that are a string': ('train_dataloader.dataset.metainfo.classes=star', "write a tuple, as in ('star',)"),
    'several files': (
        'train_dataloader.dataset.ann_file=[a.json,b.json]',
        'ann_file is a list, but CocoDataset reads a single file',
    ),
    "the evaluator's file": (
        'val_evaluator.ann_file={root}/annotations/instances_train2017.json',
        'val_evaluator.ann_file is {root}/annotations/instances_train2017.json, but val_dataloader reads',
    ),
    'no annotation file': (
        'val_evaluator.ann_file=None',
        'val_evaluator has no ann_file: set it to {root}/annotations/instances_val',
    ),
}


@pytest.mark.parametrize('kind', CONFIG_OPTIONS)
def test_invalid_config_values_raise_input_error(
    kind: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option, expected = (text.replace('{root}', str(shapes)) for text in CONFIG_OPTIONS[kind])
    work_dir = tmp_path / 'run'
    argv = [str(DETECTION), '--data-root', str(shapes), '--work-dir', str(work_dir), '--cfg-options', option]
    assert expected in error_of(train, argv, capsys)
    assert not work_dir.exists()


ZERO = [
    f'{loader}.dataset.{key}=False'
    for loader in LOADERS
    for key in ('reduce_zero_label', 'pipeline.1.reduce_zero_label')
]
SEGMENTATION_OPTIONS = {
    'batch of one': (['train_dataloader.batch_size=1'], 'batch_size is 1, but the batch norm in model.decode_head.psp'),
    'last batch of one': (
        ['train_dataloader.batch_size=5', 'train_dataloader.sampler.type=DefaultSampler'],
        'the last batch of 6 images has a single one',
    ),
    'map index': (
        ['model.auxiliary_head.in_index=5'],
        'has in_index=5, but model.backbone (swin_backbone.SwinTransformer)',
    ),
    'map channels': (['model.auxiliary_head.in_channels=64'], 'outputs 128 channels: set model.auxiliary_head.in_ch'),
    'ending': (['train_dataloader.dataset.img_suffix=.png'], 'but 6 *.jpg: set img_suffix=.jpg'),
    'label 0 in one place': (ZERO[:1], 'reduce_zero_label is False in the data set and True in LoadAnnotations'),
    'label 0 in one data set': (ZERO[:2], 'reduce_zero_label is False in train_dataloader, True in val_dataloader'),
}


@pytest.mark.parametrize('kind', SEGMENTATION_OPTIONS)
def test_invalid_segmenter_configs_raise_input_error(
    kind: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, expected = SEGMENTATION_OPTIONS[kind]
    work_dir = tmp_path / 'run'
    argv = [str(SEGMENTATION), '--data-root', str(shapes), '--work-dir', str(work_dir), '--cfg-options', *options]
    if kind.startswith('label 0'):  # ten classes, so that the labels are valid with and without label 0
        argv += ['--classes', ','.join(f'c{number}' for number in range(10))]
    assert expected in error_of(train, argv, capsys)
    assert not work_dir.exists()


COMMAND_OPTIONS = {
    'seed': (['--seed', '-1'], 'randomness.seed must be an integer from 0 to 4294967295, got -1'),
    'work dir that is a file': (['--work-dir', __file__], f'--work-dir {__file__}: {__file__} is a file'),
    'work dir without access': (['--work-dir', '/proc/absent/run'], '--work-dir /proc/absent/run cannot be written'),
    'launcher pytorch': (['--launcher', 'pytorch'], 'variable RANK, which is not set: start the command with torchrun'),
    'launcher slurm': (['--launcher', 'slurm'], 'variable SLURM_PROCID, which is not set: start the command with srun'),
    'launcher mpi': (['--launcher', 'mpi'], 'is not set: start the command with mpirun'),
    'weights': (['--weights', 'absent/swin.pth'], '--weights absent/swin.pth does not exist'),
    'classes': (['--classes', 'circle,squar'], "class 'squar' is not in"),
}


@pytest.mark.parametrize('kind', COMMAND_OPTIONS)
def test_invalid_training_options_raise_input_error(
    kind: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_LOCAL_RANK'):
        monkeypatch.delenv(variable, raising=False)
    options, expected = COMMAND_OPTIONS[kind]
    assert expected in error_of(train, [str(DETECTION), '--data-root', str(shapes), *options], capsys)
    assert list(tmp_path.iterdir()) == []


TEST_OPTIONS = {
    'factors of 0': (['--tta', '--cfg-options', 'tta_factors=[0]'], 'tta_factors must be a list of numbers above 0'),
    'factors in words': (['--tta', '--cfg-options', 'tta_factors=x'], "such as [0.75,1.0,1.25], got 'x'"),
    'predictions': (['--out', '/proc/x.pkl'], '--out /proc cannot be written'),
    'report': (['--show-dir', __file__], f'--show-dir {__file__}: {__file__} is a file'),
    'several test sets': (
        ['--cfg-options', "test_dataloader.dataset={'type':'ConcatDataset','_delete_':True,'datasets':[]}"],
        'ConcatDataset without a pipeline, but tests need',
    ),
}


@pytest.mark.parametrize('kind', TEST_OPTIONS)
def test_invalid_test_options_raise_input_error(
    kind: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, expected = TEST_OPTIONS[kind]
    (tmp_path / 'model.pth').write_bytes(b'')
    argv = [
        str(DETECTION),
        str(tmp_path / 'model.pth'),
        '--data-root',
        str(shapes),
        '--work-dir',
        str(tmp_path / 'run'),
    ]
    if kind == 'several test sets':
        config = tmp_path / 'concat.py'
        config.write_text(
            f"_base_ = '{DETECTION}'\n_v = _base_.val_dataloader.dataset\n"
            "test_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[_v, _v]))\n"
        )
        argv, options = [str(config), *argv[1:]], []
    assert expected in error_of(test, [*argv, *options], capsys)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (['--score-threshold', 'nan'], '--score-threshold must be from 0 to 1, got nan'),
        (['--device', 'gpu'], '--device gpu cannot be used'),
        (['--out-dir', __file__], 'is a file, not a folder'),
    ],
)
def test_invalid_predict_options_raise_input_error(
    options: list[str], expected: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'model.pth').write_bytes(b'')
    argv = [str(DETECTION), str(tmp_path / 'model.pth'), str(shapes / 'val2017'), *options]
    assert expected in error_of(predict, argv, capsys)


FILES = {
    'a name': ('model = dict(neck=dict(num_outs=_widht))', "line 2, cannot be read: name '_widht' is not defined"),
    'its own base': ("_base_ = './own.py'", 'it is its own base'),
    'no base': ("_base_ = './absent.py'", 'absent.py cannot be read'),
    'syntax': ('model = dict(', "line 2, cannot be read: syntax error: '(' was never closed"),
    'an error': ('model = 1 / 0', 'line 2, cannot be read: ZeroDivisionError: division by zero'),
    'an import': ("custom_imports = dict(imports=['nothing_here'])", 'Failed to import custom modules'),
    'an attribute': ('model = dict(neck=_base_.nekc)', "object has no attribute 'nekc'"),
    'a model': ('model = 3', 'has no model'),
}


@pytest.mark.parametrize('kind', FILES)
def test_invalid_config_files_raise_input_error(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, expected = FILES[kind]
    base = '' if '_base_ =' in text else f"_base_ = '{DETECTION}'"
    (tmp_path / 'own.py').write_text(f'{base}\n{text}\n' if kind != 'a model' else f'{text}\n')
    assert expected in error_of(train, [str(tmp_path / 'own.py')], capsys)


def test_an_inherited_key_suggests_delete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'own.py').write_text(
        "_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'\n"
        "model = dict(backbone=dict(type='swin_backbone.SwinTransformer', variant='tiny', init_cfg=None))\n"
    )
    config = Config.fromfile(tmp_path / 'own.py')
    with (
        pytest.raises(InputError, match=r"does not accept 'depth'.*set _delete_=True in model\.backbone"),
        explained(config),
    ):
        model_check.check_model(config, ())


def own_classes(root: Path, change: Callable[[dict[str, Any], str], None], target: Path) -> Path:
    """Copy the generated data with changed annotations."""
    shutil.copytree(root, target)
    for path in target.glob('annotations/*.json'):
        content = json.loads(path.read_text())
        change(content, path.stem)
        path.write_text(json.dumps(content))
    return target


def rename(content: dict[str, Any], name: str) -> None:
    for number, category in enumerate(content['categories']):
        category['name'] = f'part{number}'


def reverse(content: dict[str, Any], name: str) -> None:
    if 'val' in name:
        content['categories'].reverse()


def drop_one(content: dict[str, Any], name: str) -> None:
    if 'val' in name:
        content['categories'].pop(2)


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (
            rename,
            r'has the classes part0, .*but none of the classes of the config, circle, .*Add --classes part0,part1',
        ),
        (reverse, r'val2017\.json lists the classes as cross, ring, .*but the config as circle'),
        (drop_one, r"class 'triangle' is not in .*val2017"),
    ],
)
def test_classes_that_differ_from_the_annotations_raise_input_error(
    change: Callable[[dict[str, Any], str], None], expected: str, shapes: Path, tmp_path: Path
) -> None:
    config = demo_config(DETECTION, own_classes(shapes, change, tmp_path / 'own'))
    with pytest.raises(InputError, match=expected):
        check_classes(config, LOADERS)


def test_several_validation_sets_need_one_merged_annotation_file(shapes: Path, tmp_path: Path) -> None:
    config = demo_config(DETECTION, shapes)
    part = config.val_dataloader.dataset
    other = dict(part, ann_file='annotations/instances_train2017.json')
    config.val_dataloader.dataset = dict(type='ConcatDataset', datasets=[part, other])
    with pytest.raises(InputError, match='Use the same file in both, with all images in it'):
        check_ground_truth(config, 'val_dataloader', 'val_evaluator')


def test_images_of_different_sizes_without_a_crop_raise_input_error(shapes: Path, tmp_path: Path) -> None:
    root = tmp_path / 'own'
    shutil.copytree(shapes, root)
    for folder in ('images', 'annotations'):
        path = sorted((root / folder / 'training').iterdir())[0]
        with Image.open(path) as image:
            image.resize((200, 150), Image.Resampling.NEAREST).save(path)
    config = demo_config(SEGMENTATION, root)
    with pytest.raises(InputError, match=r'\(128x128\) and .*\(200x150\), cannot be stacked .*RandomCrop'):
        model_check.check_sizes(config, 'train_dataloader')
    crop = dict(type='RandomCrop', crop_size=(96, 96))
    pipeline = config.train_dataloader.dataset.pipeline
    config.train_dataloader.dataset.pipeline = [*pipeline[:2], crop, *pipeline[2:]]
    model_check.check_sizes(config, 'train_dataloader')


def test_a_softmax_over_one_class_raises_input_error(shapes: Path) -> None:
    config = demo_config(SEGMENTATION, shapes)
    for loader in LOADERS:
        config[loader].dataset.metainfo = dict(classes=('part',))
    with pytest.raises(InputError, match='give two classes, background first'):
        model_check.check_model(config, LOADERS)


@pytest.mark.parametrize(
    'name', ['cascade_swin_t_3x', 'htc_swin_b_6x', 'sparse_rcnn_swin_t_3x', 'reppoints_v2_swin_t_3x']
)
def test_installed_configs_pass_all_checks(name: str) -> None:
    config = counted_configs.config(name)
    check_types(config)
    model_check.check_model(config, LOADERS)


def test_a_dry_run_computes_a_loss_and_saves_nothing(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(DETECTION), '--data-root', str(shapes), '--work-dir', str(tmp_path), '--dry-run']
    assert outcome(train.main, argv) == 0
    shown = ''.join(capsys.readouterr())
    assert 'This run:' in shown and shown.index('This run:') < shown.index(
        'Tried one batch of shape [4, 3, 128, 128]: loss '
    )
    assert not list(tmp_path.glob('*.pth')) and not (tmp_path / 'summary.json').exists()


def test_known_errors_of_a_run_are_explained() -> None:
    config = Config(dict(model={}), filename=None)
    with pytest.raises(RunFailure, match='the images of a batch have different sizes'), explained(config):
        raise RuntimeError('stack expects each tensor to be equal size, but got ...')
    with pytest.raises(RuntimeError, match='out of memory'), explained(config):
        raise RuntimeError('out of memory')


def test_an_ignored_label_zero_that_is_a_class_raises_input_error(tmp_path: Path) -> None:
    """With reduce_zero_label, label 0 of 0, 1 and 2 would be ignored and label 1 would become the first class."""
    config = demo_config(SEGMENTATION, tmp_path)
    for split in ('training', 'validation'):
        for kind in ('images', 'annotations'):
            (tmp_path / kind / split).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / 'images' / split / 'a.jpg')
        Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(tmp_path / 'annotations' / split / 'a.png')
    for loader in LOADERS:
        config[loader].dataset.metainfo = dict(classes=('background', 'bolt', 'nut'))
    with pytest.raises(InputError, match=r'never label 3 \(nut\).*if label 0 is background, add --cfg-options'):
        check_classes(config, LOADERS)


def test_the_summary_lists_weights_that_were_not_loaded(shapes: Path) -> None:
    config = demo_config(DETECTION, shapes)
    model = build_model(config)
    content = dict(state_dict=model.state_dict())
    assert describe_whole('model.pth', content, model) == 'whole model from model.pth'
    set_head_classes(config, 2)
    text = describe_whole('model.pth', content, build_model(config))
    assert 'WARNING: 12 of the' in text and 'roi_head.bbox_head.0.fc_cls.weight: (7, 256) in the file, (3, 256)' in text
