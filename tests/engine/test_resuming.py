"""Killed and resumed runs equal uninterrupted ones bit for bit, and skipped batches are not loaded."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from swin_backbone.engine.resume import set_resume
from swin_backbone.engine.run_checkpoints import INTERRUPTED, POINTER
from swin_backbone.engine.stop_signals import StopHook
from swin_backbone.errors import RunStopped
from tests.engine.kill_table import differences
from tests.engine.small_run import EPOCH, Numbers, build, state, toy_config, train


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('killed_at', [7, 11])
@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_resumed_run_equals_an_uninterrupted_run(
    by_epoch: bool, killed_at: int, workers: int, tmp_path: Path
) -> None:
    """Resuming is exact also with a different number of workers."""
    uninterrupted = train(toy_config(tmp_path / 'one', by_epoch))
    train(toy_config(tmp_path / 'two', by_epoch, workers), killed_at)
    config = toy_config(tmp_path / 'two', by_epoch, workers)
    set_resume(config, 'auto')
    resumed = train(config)
    assert differences(state(uninterrupted), state(resumed)) == []
    assert uninterrupted.model.seen[-len(resumed.model.seen) :] == resumed.model.seen
    assert len(resumed.model.seen) == 3 * EPOCH - (killed_at // EPOCH * EPOCH if by_epoch else killed_at // 4 * 4)


def test_samples_depend_only_on_epoch_and_index(tmp_path: Path) -> None:
    seen = [train(toy_config(tmp_path / str(n), True, workers=n)).model.seen for n in (0, 1, 2)]
    assert seen[0] == seen[1] == seen[2]
    rows = [tuple(batch[i : i + 4]) for batch in seen[0] for i in (0, 4)]
    assert len(set(rows)) == len(rows), 'another epoch, another augmentation'


@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'DefaultSampler'])
def test_skipped_batches_are_not_loaded(sampler: str, tmp_path: Path) -> None:
    """Starting at iteration 100,000 only draws indices."""
    config = toy_config(tmp_path, False, count=100_002, custom_hooks=[])
    config.train_dataloader.sampler.type = sampler
    config.train_cfg.val_interval = 10**6
    loads, runner = Numbers.loaded, build(config)
    loads.clear()
    loop = runner.build_train_loop(runner._train_loop)
    assert loads == []
    loop._iter = 100_000
    runner._train_loop = loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = None
    loop.run()
    assert loop.iter == 100_002 and len(runner.model.seen) == 2
    drawn = [int(number) for batch in runner.model.seen for number in batch[::4]]
    assert 4 <= len(loads) < 20 and len(drawn) == 4


@pytest.mark.parametrize('option', [False, True])
def test_the_loop_of_onedl_mmengine_starts_at_its_iteration(
    option: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Any) -> None:
        if not self.fast_forward_on_resume:
            self.dataloader_iterator.skip_iter(self._iter)
        self.batch = next(self.dataloader_iterator)

    runner = build(toy_config(tmp_path, False))
    loop = runner.build_train_loop(runner._train_loop)
    loop._iter, loop.fast_forward_on_resume = 100, option
    monkeypatch.setattr(IterBasedTrainLoop, 'run', run)
    loop.run()
    assert len(loop.batch['inputs']) == 2


@pytest.mark.parametrize('by_epoch', [False, True])
def test_the_data_loader_works_before_the_loop_runs(by_epoch: bool, tmp_path: Path) -> None:
    """--dry-run needs this."""
    runner = build(toy_config(tmp_path, by_epoch))
    loop = runner.build_train_loop(runner._train_loop)
    assert len(next(iter(loop.dataloader))['inputs']) == 2


def test_aspect_ratio_batches_are_resumed_exactly(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    change = dict(batch_sampler=dict(type='mmdet.AspectRatioBatchSampler'))
    states = []
    for killed_at in (None, 9):
        config = toy_config(tmp_path / str(killed_at), False)
        config.train_dataloader.update(change)
        runner = train(config, killed_at)
        if killed_at:
            set_resume(config, 'auto')
            runner = train(config)
        states.append(state(runner))
    assert differences(*states) == []


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize('by_epoch', [False, True])
def test_signals_save_and_stop_between_iterations(by_epoch: bool, number: signal.Signals, tmp_path: Path) -> None:
    """Runs can be stopped within an epoch; the extra checkpoint is deleted once the next one is complete."""

    class Sends(Hook):
        def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
            if runner.iter == 6:
                os.kill(os.getpid(), number)

    uninterrupted = train(toy_config(tmp_path / 'one', by_epoch))
    config, stop = toy_config(tmp_path / 'two', by_epoch, workers=1), StopHook()
    runner = build(config)
    runner.register_hook(Sends())
    runner.register_hook(stop)
    before = signal.getsignal(number)
    with stop.listening(), pytest.raises(RunStopped, match=f'stopped by {number.name} after iteration 7, saved in'):
        runner.train()
    assert signal.getsignal(number) is before
    assert (tmp_path / 'two' / POINTER).read_text() == INTERRUPTED
    set_resume(config, 'auto')
    resumed = train(config)
    assert differences(state(uninterrupted), state(resumed)) == [] and not (tmp_path / 'two' / INTERRUPTED).exists()


def test_an_interrupted_evaluation_is_repeated_after_resuming(tmp_path: Path) -> None:
    config, stop = toy_config(tmp_path / 'two', False), StopHook()
    runner = build(config)
    stop.received = None

    class Sends(Hook):
        def before_val(self, runner: Runner) -> None:
            stop.received = signal.SIGTERM

    for hook in (Sends(), stop):
        runner.register_hook(hook)
    with pytest.raises(RunStopped, match='after iteration 6'):
        runner.train()
    set_resume(config, 'auto')
    resumed = train(config)
    steps = resumed.message_hub.log_scalars['val/toy/score'].data[0]
    assert len(steps) == len(
        train(toy_config(tmp_path / 'one', False)).message_hub.log_scalars['val/toy/score'].data[0]
    )


def test_a_stop_waits_until_accumulated_gradients_are_applied(tmp_path: Path) -> None:
    config, stop = toy_config(tmp_path, False), StopHook()
    config.optim_wrapper.accumulative_counts = 4
    runner = build(config)
    stop.received = signal.SIGTERM
    runner.register_hook(stop)
    with pytest.raises(RunStopped, match='after iteration 4'):
        runner.train()
