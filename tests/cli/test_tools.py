"""The commands end to end on a few generated images, each in its own process."""

import json
from pathlib import Path

import pytest
import torch

from swin_backbone.attention.position_encoding import relative_position_index
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from tests.backbones.test_parity_openmmlab import RENAMES, to_unfold_order
from tests.commands import call
from tests.conftest import REPOSITORY

DETECTION = 'configs/detection/cascade_swin_demo.py'
SEGMENTATION = 'configs/segmentation/upernet_swin_demo.py'
SMALL = ['train_dataloader.batch_size=2', 'val_dataloader.batch_size=2', 'train_dataloader.persistent_workers=False']
SMALL += ['train_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0']
SMALL += ['test_dataloader.persistent_workers=False', 'test_dataloader.num_workers=0', 'model.backbone.embed_dim=16']
NECKS = {
    DETECTION: ['model.neck.in_channels=[16,32,64,128]'],
    SEGMENTATION: ['model.decode_head.in_channels=[16,32,64,128]', 'model.auxiliary_head.in_channels=64'],
}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, ShapesSpec(train_count=8, val_count=4))
    return root


def succeed(tool: str, *args: object) -> str:
    result = call(tool, *args)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout + result.stderr


@pytest.mark.parametrize(('config', 'metrics'), [
    (DETECTION, ('bbox_mAP', 'bbox_mAP_50', 'segm_mAP', 'segm_mAP_50')),
    (SEGMENTATION, ('mIoU', 'mAcc', 'aAcc')),
])  # fmt: skip
def test_train_resume_and_test(config: str, metrics: tuple[str, ...], shapes: Path, tmp_path: Path) -> None:
    common = ['--work-dir', tmp_path, '--data-root', shapes, '--cfg-options', *SMALL, *NECKS[config]]
    log = succeed('train', config, '--max-iters', 2, '--seed', 1, *common)
    for line in ('model      ', 'none: trained from scratch', '8 training images', 'WARNING: the recipe has '):
        assert line in log
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert all(0 <= summary[name] <= 1 for name in metrics) and summary['iterations'] == 2
    assert (tmp_path / 'predictions.png').stat().st_size > 0 and (tmp_path / 'curves.png').stat().st_size > 0

    log = succeed('train', config, '--max-iters', 3, '--resume', *common)
    assert 'resumed after 2 iterations' in log
    assert json.loads((tmp_path / 'summary.json').read_text())['iterations'] == 3

    succeed('test', config, tmp_path / 'iter_3.pth', '--out', tmp_path / 'raw.pkl', *common)
    tested = json.loads((tmp_path / 'summary.json').read_text())
    assert {name: tested[name] for name in metrics} == {
        name: pytest.approx(value, abs=6e-4) for name, value in summary_of(tmp_path, metrics).items()
    }
    assert (tmp_path / 'raw.pkl').is_file()


def save_as(layout: str, checkpoint: Path, target: Path) -> Path:
    """Save a whole detector in the layout of the original detection code or of MMDetection's backbone."""
    state = {}
    for name, value in torch.load(checkpoint, weights_only=False)['state_dict'].items():
        if layout == 'mmdet' and name.startswith('backbone.'):
            value = to_unfold_order(value) if 'downsample' in name else value
            for old, new in RENAMES:
                name = name.replace(old, new)
        if name.endswith('relative_position_bias_table'):
            state[name.replace('bias_table', 'index')] = relative_position_index((4, 4)).view(16, 16)
        state[name] = value
    torch.save({'state_dict': state, 'meta': {'epoch': 36}}, target)
    return target


@pytest.mark.slow
def test_whole_detectors_in_other_layouts_give_the_same_scores(shapes: Path, tmp_path: Path) -> None:
    options = ['--data-root', shapes, '--cfg-options', *SMALL, *NECKS[DETECTION]]
    succeed('train', DETECTION, '--max-iters', 1, '--seed', 1, '--work-dir', tmp_path, *options)
    trained = json.loads((tmp_path / 'summary.json').read_text())
    for layout in ('original', 'mmdet'):
        foreign = save_as(layout, tmp_path / 'iter_1.pth', tmp_path / f'{layout}.pth')
        succeed('test', DETECTION, foreign, '--work-dir', tmp_path / layout, *options)
        tested = json.loads((tmp_path / layout / 'summary.json').read_text())
        for name in ('bbox_mAP', 'bbox_mAP_50', 'segm_mAP', 'segm_mAP_50'):
            assert tested[name] == pytest.approx(trained[name], abs=1e-3)


def summary_of(work_dir: Path, metrics: tuple[str, ...]) -> dict[str, float]:
    """Return the scores of the last evaluation during training from mmengine's log, which rounds to three digits."""
    from swin_backbone.evaluation.curves import read_scalars
    from swin_backbone.evaluation.results import flatten_metrics

    records = [flatten_metrics(record) for record in read_scalars(work_dir)]
    return {name: next(r[name] for r in reversed(records) if name in r and 'step' in r) for name in metrics}


def test_resuming_never_runs_code_from_a_file(shapes: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / 'owned',))

    torch.save({'state_dict': {}, 'meta': Payload()}, tmp_path / 'evil.pth')
    options = ['--work-dir', tmp_path, '--data-root', shapes, '--cfg-options', *SMALL, *NECKS[DETECTION]]
    result = call('train', DETECTION, '--max-iters', 1, '--resume', tmp_path / 'evil.pth', *options)
    assert result.returncode != 0
    assert not (tmp_path / 'owned').exists()


def test_dry_run_builds_everything_and_trains_nothing(shapes: Path, tmp_path: Path) -> None:
    log = succeed('train', DETECTION, '--dry-run', '--data-root', shapes, '--work-dir', tmp_path, '--auto-scale-lr')
    assert '16 iterations (8.0 epochs of 2)' in log
    assert not list(tmp_path.glob('*.pth'))


def test_missing_weights_end_the_run_before_training(shapes: Path, tmp_path: Path) -> None:
    weights = tmp_path / 'swin_tiny.pth'
    result = call('train', DETECTION, '--data-root', shapes, '--work-dir', tmp_path, '--weights', weights, '--dry-run')
    assert result.returncode == 2
    assert 'swin_tiny.pth' in result.stderr and 'Traceback' not in result.stderr


@pytest.mark.parametrize(
    ('tool', 'args', 'message'),
    [
        ('train', ['configs/none.py'], 'there is no config'),
        ('train', [DETECTION, '--data-root', 'nowhere'], 'is not a folder'),
        ('train', [DETECTION, '--max-iters', '0'], 'must be at least 1'),
        ('train', [DETECTION, '--max-iters', 'many'], 'invalid int value'),
        ('train', [DETECTION, '--fast'], 'unrecognized arguments'),
        ('train', ['configs/detection/cascade_swin_t_3x.py', '--data-root', 'tests'], 'the data set is incomplete'),
        ('test', [DETECTION, 'nothing.pth'], 'checkpoint nothing.pth does not exist'),
        ('train', ['pyproject.toml'], 'cannot be read'),
    ],
)
def test_invalid_input_exits_with_2_and_one_sentence(
    tool: str, args: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from importlib import import_module

    from swin_backbone import cli

    monkeypatch.chdir(REPOSITORY)
    module = import_module(f'swin_backbone.cli.{tool}')
    with pytest.raises(SystemExit) as stop:
        cli.run(module.main, args)
    assert stop.value.code == 2
    errors = capsys.readouterr().err.strip()
    assert message in errors and 'Traceback' not in errors and len(errors.splitlines()) == 1


def follow_links(root: Path, scratch: Path) -> Path:
    """Return ``root``, or a copy with links if a checkout replaced symbolic links by text files."""
    pointers = [path for path in root.glob('*/*') if path.is_file() and path.suffix == '']
    if not pointers:
        return root
    for folder in root.glob('*/*'):
        target = (folder.parent / folder.read_text().strip()).resolve() if folder in pointers else folder
        (scratch / folder.parent.name).mkdir(exist_ok=True)
        (scratch / folder.relative_to(root)).symlink_to(target)
    return scratch


@pytest.mark.slow
@pytest.mark.parametrize(('config', 'folder'), [
    ('configs/detection/cascade_swin_t_1x.py', 'coco100'),
    ('configs/segmentation/upernet_swin_t_160k.py', 'ade100'),
])  # fmt: skip
def test_paper_recipes_load_real_photographs(config: str, folder: str, data_dir: Path, tmp_path: Path) -> None:
    """The unmodified training pipeline returns a batch with the expected shapes."""
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner

    from swin_backbone.engine import config as change

    recipe = change.load_config(str(REPOSITORY / config), None)
    change.move_data_root(recipe, str(follow_links(data_dir / folder, tmp_path)))
    assert change.missing_data(recipe, change.LOADERS) == []
    init_default_scope(recipe.default_scope)
    loader = recipe.train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    assert len(batch['inputs']) == 2 and all(image.shape[0] == 3 for image in batch['inputs'])
    sample = batch['data_samples'][0]
    if folder == 'coco100':
        assert sample.gt_instances.masks.masks.shape[0] == len(sample.gt_instances.bboxes)
        assert max(batch['inputs'][0].shape) <= 1333
    else:
        assert max(sample.gt_sem_seg.data.shape) <= 512
