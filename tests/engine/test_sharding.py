"""Training with DDP, ZeRO and FSDP in two processes equals training in one process."""

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from mmengine.config import Config
from mmengine.config import config as settings
from mmengine.runner import runner
from torch import distributed

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.errors import InputError
from tests.conftest import REPOSITORY

pytest.importorskip('mmseg', reason='MMSegmentation is not installed')

from swin_backbone.engine.config import load_config, set_launcher, use_own_types
from swin_backbone.engine.sharding import build_in_shards
from swin_backbone.engine.strategies import set_strategy
from swin_backbone.engine.train import build_runner

STEPS, TOLERANCE = 4, 1e-6
RUNS = {
    'ddp': ('ddp', None),
    'zero': ('zero', None),
    'fsdp': ('fsdp', None),
    'fsdp_resumed': ('fsdp', 'fsdp'),
    'zero_after_fsdp': ('zero', 'fsdp'),
}
"""Strategy of each run, and the run from whose intermediate checkpoint it is resumed."""

LARGE = dict(type='swin_backbone.SwinTransformer', embed_dim=64, num_heads=(2, 4, 8, 16), version=2)


def configure(folder: Path, run: str, batch: int) -> Config:
    """Return the config of a small demo segmenter with gradient clipping and accumulation, without batch norms."""
    norm = dict(type='GN', num_groups=4)
    config = load_config(str(REPOSITORY / 'configs/segmentation/upernet_swin_demo.py'))
    changes: dict[str, Any] = dict(
        model=dict(
            data_preprocessor=dict(size=(64, 64)),
            test_cfg=dict(mode='slide', crop_size=(48, 48), stride=(32, 32)),
            backbone=dict(embed_dim=16, depths=(1, 1, 1, 1), with_cp=[2]),
            decode_head=dict(in_channels=[16, 32, 64, 128], channels=16, norm_cfg=norm, dropout_ratio=0),
            auxiliary_head=dict(in_channels=64, channels=16, norm_cfg=norm, dropout_ratio=0),
        ),
        train_dataloader=dict(batch_size=batch, num_workers=0, persistent_workers=False),
        val_dataloader=dict(batch_size=1, num_workers=0, persistent_workers=False),
        train_cfg=dict(max_iters=STEPS, val_interval=STEPS),
        optim_wrapper=dict(clip_grad=dict(max_norm=0.5), accumulative_counts=2),
        default_hooks=dict(checkpoint=dict(interval=2), logger=dict(interval=1)),
        work_dir=str(folder / run),
        experiment_name=str(folder / run),
        randomness=dict(seed=3),
    )
    config.merge_from_dict(changes)
    config.visualizer.vis_backends = []
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.dataset.data_root = str(folder / 'shapes')
    use_own_types(config)
    return config


def train(config: Config) -> None:
    """Train, and save the scores of the evaluation in the first process."""
    built = build_runner(config)
    built.train()
    scores = {name: value.current() for name, value in built.message_hub.log_scalars.items() if 'val/' in name}
    if built.rank == 0:
        torch.save(scores, Path(config.work_dir) / 'scores')


def compute(rank: int, folder: Path) -> None:
    """Run all strategies in one of two processes."""
    torch.set_num_threads(1)
    variables = dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='localhost', MASTER_PORT='1')
    os.environ.update(variables, CUDA_VISIBLE_DEVICES='')
    distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    torch.save(growth(), folder / f'growth{rank}')
    with patch.object(runner, 'collect_env', dict), patch.object(settings, 'FormatCode', format_nothing, create=True):
        compute_runs(folder)
    distributed.barrier()
    distributed.destroy_process_group()


def format_nothing(text: str, **options: Any) -> tuple[str, bool]:
    """Replacement for the formatter of config files."""
    return text, True


def compute_runs(folder: Path) -> None:
    """Train with each strategy."""
    for run, (strategy, before) in RUNS.items():
        config = configure(folder, run, batch=2)
        with patch.object(distributed, 'init_process_group'):
            set_launcher(config, 'pytorch')
        set_strategy(config, strategy)
        if before is not None:
            config.update(resume=True, load_from=str(folder / before / 'iter_2.pth'))
        train(config)


def growth() -> tuple[int, int]:
    """Return the peak memory added by building a sharded backbone, and the memory of the whole backbone."""
    import swin_backbone.registry  # noqa: F401

    build_in_shards(dict(LARGE, variant=None, embed_dim=12, depths=(1,), num_heads=(1,), out_indices=(0,)))
    Path('/proc/self/clear_refs').write_text('5')  # reset the peak
    before = memory('VmRSS')
    backbone = build_in_shards(dict(LARGE))
    return memory('VmHWM') - before, sum(4 * parameter.numel() for parameter in backbone.parameters())


def memory(key: str) -> int:
    """Return the current (VmRSS) or peak (VmHWM) memory of this process in bytes."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the training in one process and in two processes."""
    folder = tmp_path_factory.mktemp('runs')
    write_shapes(folder / 'shapes', ShapesSpec(train_count=8, val_count=3, width=64, height=64, object_size=(12, 32)))
    config = configure(folder, 'one', batch=4)
    set_launcher(config, 'none')
    with patch('torch.cuda.is_available', return_value=False):
        train(config)
    with patch.dict(os.environ, MALLOC_MMAP_THRESHOLD_='65536'):  # return freed memory to the system
        torch.multiprocessing.spawn(compute, args=(folder,), nprocs=2)
    return folder


@pytest.mark.parametrize(
    ('strategy', 'changes', 'message'),
    [
        ('fsdp', dict(launcher='none'), 'needs several processes: add --gpus N'),
        ('zero', dict(launcher='none'), 'needs several processes: add --gpus N'),
        ('deepspeed', {}, 'strategy must be one of ddp, zero, fsdp'),
        (None, dict(strategy=dict(type='FSDPStrategy')), 'strategy must be one of ddp, zero, fsdp'),
        (
            'ddp',
            dict(runner_type='FlexibleRunner'),
            'FlexibleRunner is not supported, because it cannot resume exactly',
        ),
        ('fsdp', dict(custom_hooks=[dict(type='EMAHook')]), 'averaged weights .EMAHook.*use --strategy zero'),
        ('fsdp', dict(custom_hooks=[dict(type='mmdet.ExpMomentumEMAHook')]), 'averaged weights'),
        ('fsdp', dict(find_unused_parameters=True), 'find_unused_parameters'),
        ('fsdp', dict(model_wrapper_cfg=dict(type='MMSeparateDistributedDataParallel')), 'the model wrapper MMSep'),
        ('fsdp', dict(model=dict(backbone=dict(init_cfg=dict(type='TruncNormal')))), 'init_cfg of the backbone'),
        ('fsdp', dict(compile=True), 'compile=True'),
        ('fsdp', dict(optim_wrapper=dict(generator=dict())), 'several optimizers'),
        ('zero', dict(optim_wrapper=dict(generator=dict())), 'several optimizers'),
        ('fsdp', dict(optim_wrapper=dict(optimizer=dict(type='ZeroRedundancyOptimizer'))), 'divides the state already'),
        (
            'zero',
            dict(optim_wrapper=dict(optimizer=dict(type='Lamb'))),
            'the optimizer Lamb, which is not in torch.optim',
        ),
    ],
)
def test_unsupported_strategies_raise_input_error(strategy: str | None, changes: dict[str, Any], message: str) -> None:
    parts = dict(launcher='pytorch', model=dict(), optim_wrapper=dict(optimizer=dict(type='AdamW')))
    with pytest.raises(InputError, match=message):
        set_strategy(Config({**parts, **changes}), strategy)


@pytest.mark.parametrize('strategy', ['zero', 'fsdp'])
def test_the_strategy_can_be_set_in_the_config(strategy: str) -> None:
    config = Config(dict(launcher='pytorch', model=dict(), optim_wrapper=dict(optimizer=dict(type='SGD'))))
    config.strategy = strategy
    set_strategy(config, None)
    assert config.strategy == strategy
    set_strategy(config, 'ddp')
    assert config.strategy == 'ddp'


def read(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, weights_only=False))


@pytest.mark.parametrize('run', RUNS)
def test_two_processes_train_the_same_weights_as_one(folder: Path, run: str) -> None:
    one, two = read(folder / 'one/iter_4.pth'), read(folder / run / 'iter_4.pth')
    assert list(one['state_dict']) == list(two['state_dict'])
    assert all(type(value) is torch.Tensor for value in two['state_dict'].values())
    torch.testing.assert_close(two['state_dict'], one['state_dict'], rtol=0, atol=TOLERANCE)
    assert two['optimizer']['param_groups'] == one['optimizer']['param_groups']
    torch.testing.assert_close(two['optimizer']['state'], one['optimizer']['state'], rtol=0, atol=TOLERANCE)
    scores = read(folder / 'one/scores')
    assert scores['val/mIoU'] == read(folder / run / 'scores')['val/mIoU']


def test_a_resumed_sharded_run_is_exact(folder: Path) -> None:
    first, resumed = (read(folder / run / 'iter_4.pth') for run in ('fsdp', 'fsdp_resumed'))
    for key in ('state_dict', 'optimizer'):
        torch.testing.assert_close(resumed[key], first[key], rtol=0, atol=0)


def test_no_process_allocates_the_whole_backbone(folder: Path) -> None:
    for rank in (0, 1):
        peak, total = torch.load(folder / f'growth{rank}', weights_only=False)
        assert peak < 0.75 * total, (peak, total)
