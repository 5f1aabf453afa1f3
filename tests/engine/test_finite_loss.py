"""Training with a NaN or infinite loss: the reported module, the saved batch and random state, and the patience."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mmengine
import pytest
import torch
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.data import DataLoader

import swin_backbone
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine import finite_loss
from swin_backbone.engine.finite_loss import FiniteLossHook, seeded, set_random_state
from swin_backbone.errors import InputError, RunFailure
from tests.commands import call
from tests.conftest import REPOSITORY
from tests.demo_models import SEGMENTATION


class Images(torch.utils.data.Dataset):
    """Random vectors whose data samples define the fault of the model."""

    def __init__(self, faults: dict[int, str], count: int) -> None:
        self.faults = faults
        self.vectors = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = BaseDataElement(
            metainfo=dict(img_path=f'images/{index + 1}.png', fault=self.faults.get(index + 1, ''))
        )
        return dict(inputs=self.vectors[index], data_samples=sample)


class Faulty(nn.Module):
    """The identity, or one of four faults."""

    fault = ''

    def forward(self, x: Tensor) -> Tensor:
        if self.fault == 'nan':
            return x * torch.nan
        if self.fault == 'inf, gradients finite':
            return x + torch.inf
        if self.fault == 'gradients nan':
            return (x * 0).sqrt()
        return x * 1e4 if self.fault == 'large' else x


class Toy(BaseModel):
    """Model with parameters, buffers, dropout and a part that can fail."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4, eps=0.1)
        self.head = nn.Linear(4, 2)
        self.part = nn.Sequential(nn.Dropout(0.5), Faulty())
        self.features: list[Tensor] = []

    def forward(self, inputs: list[Tensor], data_samples: list[Any], mode: str = 'loss') -> dict[str, Tensor]:
        self.part[1].fault = ''.join(sample.fault for sample in data_samples)
        x = self.part[0](self.head(self.norm(self.embed(torch.stack(inputs)))))
        self.features.append(x.detach().clone())
        x = self.part[1](x)
        return dict(loss_a=x[:, 0].mean(), loss_b=torch.ones(()))


class ScaledWrapper(OptimWrapper):
    """mmengine's AmpOptimWrapper without autocast, because its constructor requires a GPU."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.loss_scaler = torch.amp.GradScaler('cpu')

    def backward(self, loss: Tensor, **options: Any) -> None:
        self.loss_scaler.scale(loss).backward(**options)
        self._inner_count += 1

    def step(self, **options: Any) -> None:
        self.loss_scaler.step(self.optimizer, **options)
        self.loss_scaler.update()


def build(
    work_dir: Path,
    faults: dict[int, str],
    count: int = 6,
    patience: Any = 1,
    wrapper: type[OptimWrapper] = OptimWrapper,
    optimizer: Any = None,
    distributed: bool = False,
    **options: Any,
) -> Runner:
    """Build a Runner that trains :class:`Toy` for ``count`` iterations of two vectors, with faults by iteration."""
    torch.manual_seed(0)
    model, data = Toy(), Images({2 * i: fault for i, fault in faults.items()}, 2 * count)
    parallel = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    runner = Runner(
        model,
        str(work_dir),
        train_dataloader=DataLoader(
            data, batch_size=2, sampler=DefaultSampler(data, shuffle=False), collate_fn=pseudo_collate
        ),
        train_cfg=dict(by_epoch=False, max_iters=count),
        optim_wrapper=dict(type=wrapper, optimizer=optimizer or dict(type='SGD', lr=0.1), **options),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1000, by_epoch=False)),
        launcher='pytorch' if distributed else 'none',
        cfg=dict(model_wrapper_cfg=parallel) if distributed else {},
        experiment_name=str(work_dir),
        randomness=dict(seed=0),
    )
    runner.register_hook(FiniteLossHook(patience))
    return runner


def failure(runner: Runner) -> str:
    with pytest.raises(RunFailure) as stop:
        runner.train()
    assert not list(Path(runner.work_dir).glob('iter_*.pth'))
    return str(stop.value)


def test_a_nan_loss_names_the_module_and_saves_the_batch(tmp_path: Path) -> None:
    runner = build(tmp_path, {3: 'nan'})
    file = tmp_path / 'nonfinite_batch.pth'
    message = failure(runner)
    assert message.startswith(
        'the loss is not finite at iteration 3 (loss_a nan): the first output that is not finite is that of part.1. '
        f'The batch (images/5.png, images/6.png) and the random state are saved in {file}; see "NaN or infinite loss"'
    )
    assert '\n' not in message
    assert runner.iter == 2 and all(p.isfinite().all() for p in runner.model.parameters())
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Training stopped: the loss' in log and '\n  images/6.png' in log


def test_the_saved_batch_reproduces_the_iteration(tmp_path: Path) -> None:
    runner = build(tmp_path, {3: 'nan'})
    failure(runner)
    saved = torch.load(tmp_path / 'nonfinite_batch.pth', weights_only=False)
    assert saved['iteration'] == 3 and saved['images'] == ['images/5.png', 'images/6.png']
    model = Toy()
    model.load_state_dict(saved['state_dict'])
    set_random_state(saved['random_state'])
    loss, _ = model.parse_losses(model(**model.data_preprocessor(saved['batch'], True)))
    assert loss.isnan()
    first, second = runner.model.features[2:]
    assert torch.equal(first, second) and torch.equal(model.features[0], first)


def trained(work_dir: Path, **options: Any) -> dict[str, Tensor]:
    runner = build(work_dir, **options)
    runner.train()
    state = {name: value.clone() for name, value in runner.model.state_dict().items()}
    return {**state, 'random': torch.rand(3)}


@pytest.mark.parametrize('wrapper', [OptimWrapper, ScaledWrapper])
def test_a_bad_loss_within_the_patience_does_not_change_training(wrapper: Any, tmp_path: Path) -> None:
    """Weights, norm statistics and random numbers are unchanged."""
    faults = {2: 'inf, gradients finite', 4: 'inf, gradients finite'}
    options: Any = dict(faults=faults, wrapper=wrapper)
    watched, unwatched = (trained(tmp_path / str(patience), patience=patience, **options) for patience in (2, 0))
    assert watched.keys() == unwatched.keys()
    assert all(torch.equal(watched[name], unwatched[name]) for name in watched)


@pytest.mark.parametrize('wrapper', [OptimWrapper, ScaledWrapper])
def test_patience_counts_iterations_in_a_row(wrapper: Any, tmp_path: Path) -> None:
    faults = dict.fromkeys((1, 3, 4), 'inf, gradients finite')
    message = failure(build(tmp_path, faults, patience=2, wrapper=wrapper))
    assert 'at iteration 3 (loss_a inf), 2 iterations in a row: the first' in message and 'images/5.png' in message
    saved = torch.load(tmp_path / 'nonfinite_batch.pth', weights_only=False)
    assert saved['iteration'] == 3 and 'state_dict' not in saved


@pytest.mark.parametrize('patience', [-1, 1.5, 'many'])
def test_invalid_patience_raises_input_error(patience: Any) -> None:
    with pytest.raises(InputError, match='nonfinite_patience must be an integer of at least 0'):
        FiniteLossHook(patience)


def test_patience_of_zero_disables_the_hook(tmp_path: Path) -> None:
    runner = build(tmp_path, {3: 'nan'}, patience=0)
    runner.train()
    assert runner.iter == 6 and runner.model.embed.weight.isnan().all()
    assert not (tmp_path / 'nonfinite_batch.pth').exists()


def test_steps_that_the_loss_scaler_skips_do_not_count(tmp_path: Path) -> None:
    runner = build(tmp_path, dict.fromkeys((2, 3, 5), 'nan'), wrapper=ScaledWrapper)
    runner.train()
    assert runner.iter == 6 and all(p.isfinite().all() for p in runner.model.parameters())


def test_skipped_steps_do_not_count_when_gradients_accumulate(tmp_path: Path) -> None:
    options: Any = dict(wrapper=ScaledWrapper, accumulative_counts=3)
    build(tmp_path / 'skipped', {1: 'nan', 2: 'inf, gradients finite', 5: 'nan'}, **options).train()
    message = failure(build(tmp_path / 'stepped', {5: 'inf, gradients finite'}, **options))
    assert 'at iteration 5 (loss_a inf): the first' in message


def test_too_many_skipped_steps_stop_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite_loss, 'SKIPPED_IN_A_ROW', 4)
    message = failure(build(tmp_path, dict.fromkeys((1, 3, 4, 5, 6), 'nan'), wrapper=ScaledWrapper))
    assert 'at iteration 3 (loss_a nan), 4 iterations in a row' in message


def test_steps_skipped_by_a_fused_optimizer_do_not_count(tmp_path: Path) -> None:
    for fault, fails in (('nan', False), ('inf, gradients finite', True)):
        optimizer = dict(type='AdamW', fused=True)
        runner = build(tmp_path / fault[:3], {3: fault}, wrapper=ScaledWrapper, optimizer=optimizer)
        assert 'iteration 3' in failure(runner) if fails else runner.train() is not None


def test_non_finite_parameters_before_an_iteration_are_named(tmp_path: Path) -> None:
    runner = build(tmp_path, {})
    runner.model.head.weight.data[0, 1] = torch.inf
    runner.model.norm.bias.data[2] = torch.nan
    assert 'parameter norm.bias (and 1 more) is not finite before this iteration' in failure(runner)


def test_a_non_finite_batch_is_named(tmp_path: Path) -> None:
    runner = build(tmp_path, {})
    runner.train_dataloader.dataset.vectors[2] = torch.nan
    message = failure(runner)
    assert 'at iteration 2 (loss_a nan): the first output that is not finite is that of data_preprocessor.' in message


def test_non_finite_gradients_are_found_in_the_next_iteration(tmp_path: Path) -> None:
    message = failure(build(tmp_path, {3: 'gradients nan'}))
    assert 'at iteration 4 (loss_a nan): parameter embed.weight (and 5 more) is not finite before' in message


def test_no_checkpoint_of_non_finite_weights_is_written(tmp_path: Path) -> None:
    message = failure(build(tmp_path, {6: 'gradients nan'}))
    assert message.startswith('parameter embed.weight (and 5 more) is not finite after iteration 6, although the loss')
    message = failure(build(tmp_path / 'patient', {6: 'nan'}, patience=9))
    assert message.startswith('the loss is not finite at iteration 6 (loss_a nan): the first output that is')


def test_an_exploding_gradient_is_reported_once(tmp_path: Path) -> None:
    build(tmp_path, {30: 'large', 32: 'large'}, count=35, clip_grad=dict(max_norm=0.1)).train()
    warnings = [line for line in next(tmp_path.glob('*/*.log')).read_text().splitlines() if 'gradient norm' in line]
    assert len(warnings) == 1 and 'at iteration 30, ' in warnings[0] and 'the median of the previous 29' in warnings[0]


def test_random_state_is_restored() -> None:
    state = finite_loss.random_state()
    expected = torch.rand(2)
    with seeded(state):
        assert torch.equal(torch.rand(2), expected)
    assert not torch.equal(torch.rand(2), expected)


def test_the_train_command_exits_with_1_and_one_sentence(tmp_path: Path) -> None:
    write_shapes(tmp_path / 'shapes', ShapesSpec(train_count=4, val_count=2))
    options = ['--data-root', tmp_path / 'shapes', '--work-dir', tmp_path / 'run', '--max-iters', 3, '--seed', 1]
    sizes = ['train_dataloader.batch_size=2', 'model.backbone.embed_dim=16', 'model.auxiliary_head.in_channels=64']
    sizes += ['model.decode_head.in_channels=[16,32,64,128]', 'optim_wrapper.optimizer.lr=1e30']
    for loader in ('train_dataloader', 'val_dataloader'):
        sizes += [f'{loader}.num_workers=0', f'{loader}.persistent_workers=False']
    done = call('train', SEGMENTATION, *options, '--cfg-options', *sizes)
    assert done.returncode == 1, done.stderr[-2000:]
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(
        'error: the loss is not finite at iteration 2 (decode.loss_ce nan, aux.loss_ce nan): the first'
    )
    assert 'is that of backbone.patch_embed.norm. The batch (' in message and 'Traceback' not in done.stderr
    assert f'{tmp_path}/shapes/images/training/' in message and (tmp_path / 'run/nonfinite_batch.pth').is_file()
    assert not (tmp_path / 'run/summary.json').exists() and not list((tmp_path / 'run').glob('iter_*'))

    page = (REPOSITORY / 'docs/troubleshooting.md').read_text()
    steps = page.partition('```python\n')[2].partition('```')[0].replace('CONFIG.py', 'upernet_swin_demo.py')
    names: dict[str, Any] = dict(torch=torch, mmengine=mmengine, swin_backbone=swin_backbone)
    exec(steps.replace('work_dirs/RUN', str(tmp_path / 'run')), names)
    assert names['losses']['decode.loss_ce'].isnan()

    done = call('train', SEGMENTATION, *options, '--nonfinite-patience', -2)
    assert done.returncode == 2 and '--nonfinite-patience must be at least 0, got -2' in done.stderr


def test_every_process_reports_the_same_failure(tmp_path: Path) -> None:
    launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', '-m', __name__]
    command = [sys.executable, *launch, str(tmp_path / 'run')]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    message = [line for line in done.stdout.splitlines() if line.startswith('RunFailure')]
    assert len(message) == 2 and message[0] == message[1], done.stderr[-2000:]
    assert 'at iteration 2 (loss_a nan): the first output that is not finite is that of part.1.' in message[0]
    assert 'The batch (images/6.png, images/8.png)' in message[0]
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['nonfinite_batch_rank1.pth']


if __name__ == '__main__':  # one of two processes; the second has the fault
    torch.distributed.init_process_group('gloo')
    run = build(Path(sys.argv[1]), {3: 'nan'}, distributed=True)
    try:
        run.train()
    except RunFailure as stopped:
        print(f'RunFailure {stopped}\n', end='', flush=True)
