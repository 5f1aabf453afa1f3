"""Training runs with mmengine's Runner, and the summary at their start."""

import importlib.util
import logging
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from swin_backbone import SwinTransformer
from swin_backbone.attention.kernels.triton_launch import describe_choice
from swin_backbone.engine.checkpoints import load_safely
from swin_backbone.engine.config import has_accelerator
from swin_backbone.engine.finite_loss import FiniteLossHook
from swin_backbone.engine.hooks import PendingEvaluationHook, PredictionSheetHook, WholeModelHook
from swin_backbone.engine.lock import locked
from swin_backbone.engine.random_numbers import RandomStateHook
from swin_backbone.engine.resume import schedule_changes
from swin_backbone.engine.run_options import describe_machine
from swin_backbone.engine.runner import QuietRunner, ignore_warnings, quiet_console
from swin_backbone.engine.sharding import ShardedEvaluationHook, is_sharded
from swin_backbone.engine.stop_signals import StopHook
from swin_backbone.engine.strategies import STRATEGIES
from swin_backbone.errors import InputError
from swin_backbone.evaluation.curves import draw_curves
from swin_backbone.evaluation.results import headline, write_summary
from swin_backbone.mmcv_ops import mmcv_operators


def build_runner(config: Config) -> Runner:
    """Build the Runner of a config; without a GPU, synchronised batch norms are replaced by plain ones."""
    ignore_warnings()
    if 'runner_type' in config:
        runner = RUNNERS.build(config)
        quiet_console(runner.logger)
    else:
        runner = QuietRunner.from_cfg(config)
    if not torch.cuda.is_available():
        runner.model = revert_sync_batchnorm(runner.model)
    load_safely(runner)
    runner.register_hook(RandomStateHook())
    if is_sharded(runner.model):
        runner.register_hook(ShardedEvaluationHook())
    runner.register_hook(PredictionSheetHook(Path(runner.work_dir) / 'predictions.png'))
    return runner


def train(config: Config, recipe_precision: str) -> None:
    """Train and evaluate, and write ``summary.json``, ``curves.png`` and ``predictions.png`` to the work dir.

    Raises:
        InputError: if another process is using the work dir.
        RunFailure: if the loss is not finite or a file cannot be written; no summary is written then.
        RunStopped: if a signal stopped the run, after saving it.
    """
    with locked(config.work_dir):
        run(config, recipe_precision)


def run(config: Config, recipe_precision: str) -> None:
    """Train in a locked work dir."""
    runner = build_runner(config)
    runner.register_hook(WholeModelHook(heads=bool(config.get('resume'))))
    runner.register_hook(StartSummaryHook(recipe_precision))
    runner.register_hook(FiniteLossHook(config.get('nonfinite_patience', 1)))
    runner.register_hook(PendingEvaluationHook())
    stop = StopHook()
    runner.register_hook(stop)
    started = time.perf_counter()
    with stop.listening():
        runner.train()
    if runner.rank == 0:
        facts = run_facts(runner, time.perf_counter() - started)
        metrics = last_metrics(runner)
        report = write_summary(runner.work_dir, metrics, **facts)
        draw_curves(Path(runner.work_dir), Path(runner.work_dir) / 'curves.png')
        images = 'predictions.png and curves.png' if runner.val_loop is not None else 'curves.png'
        runner.logger.info(f'Result: {headline(metrics)}; see {report}, and {images} in the same folder')


def last_metrics(runner: Runner) -> dict[str, Any]:
    """Return the scores of the last evaluation during training, from the Runner's message hub."""
    scalars = runner.message_hub.log_scalars
    return {name[4:]: float(history.current()) for name, history in scalars.items() if is_metric(name)}


def is_metric(name: str) -> bool:
    """Return whether a scalar of the message hub is a score, not a time."""
    return name.startswith('val/') and name not in ('val/time', 'val/data_time')


def run_facts(runner: Runner, seconds: float) -> dict[str, Any]:
    """Return the facts about a run that are recorded in its summary."""
    return dict(
        config=runner.cfg.filename,
        iterations=runner.iter,
        seconds=round(seconds, 1),
        parameters=sum(p.numel() for p in runner.model.parameters()),
        torch=torch.__version__,
        mmcv_operators=mmcv_operators(),
        threads=torch.get_num_threads(),
    )


class StartSummaryHook(Hook):
    """Logs a summary of the run before its first iteration, after everything is built and loaded.

    Args:
        recipe_precision: the precision in the config, before it was adapted to this machine.
    """

    priority = 'VERY_LOW'

    def __init__(self, recipe_precision: str) -> None:
        self.recipe_precision = recipe_precision
        self.loaded = self.changed = ''

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Describe the checkpoint of ``load_from``."""
        if runner._load_from:
            self.loaded = describe_whole(runner._load_from, checkpoint, unwrapped(runner.model))
        if runner._resume:
            self.changed = schedule_changes(runner, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Log the summary, after weights and checkpoints are loaded."""
        found = describe(runner, self.recipe_precision, self.loaded)
        found['schedule'] += f'; {self.changed}' if self.changed else ''
        lines = [f'  {name:<10} {text}' for name, text in found.items()]
        runner.logger.info('This run:\n' + '\n'.join(lines))


def unwrapped(model: Any) -> Any:
    """Return the model without the wrapper of a distributed run."""
    return model.module if is_model_wrapper(model) else model


def describe(runner: Runner, recipe_precision: str, loaded: str) -> dict[str, str]:
    """Return the lines of the summary by name; ``loaded`` describes the checkpoint of ``load_from``."""
    model = unwrapped(runner.model)
    return {
        'model': describe_model(model),
        'weights': describe_weights(runner, model, loaded),
        'data': describe_data(runner),
        'batch': describe_batch(runner),
        **describe_processes(runner),
        'schedule': describe_schedule(runner),
        'precision': describe_precision(runner, recipe_precision),
        'machine': describe_machine(runner.cfg.train_dataloader.get('num_workers', 0)),
        'attention': describe_choice(),
        'operators': mmcv_operators(),
        'work dir': runner.work_dir,
    }


def describe_model(model: nn.Module) -> str:
    """Describe the classes and parameter counts of a model."""
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    names = f'{type(model).__name__} on {type(model.backbone).__name__}'
    return f'{names}, {total / 1e6:.2f}M parameters, {trained / 1e6:.2f}M of them trained'


def describe_weights(runner: Runner, model: nn.Module, loaded: str) -> str:
    """Describe the source of the weights and how much of the backbone they cover."""
    if runner._resume and runner.iter > 0:
        return f'resumed after {runner.iter} iterations, from {runner._load_from}'
    if loaded:
        return loaded
    init = getattr(model.backbone, 'init_cfg', None)
    if not init:
        return 'none: trained from scratch'
    report = getattr(model.backbone, 'load_report', None)
    return str(report) if report is not None else f'backbone: {init}'


def describe_whole(source: str, content: dict[str, Any], model: nn.Module) -> str:
    """Describe a loaded whole model, including parameters that are missing or have a different shape.

    Swin backbones are left out, because they are checked when the checkpoint is loaded.
    """
    state = {name.removeprefix('module.'): value for name, value in content.get('state_dict', content).items()}
    backbones = tuple(f'{name}.' for name, module in model.named_modules() if isinstance(module, SwinTransformer))
    own = {name: value for name, value in model.named_parameters() if not name.startswith(backbones)}
    absent = [name for name, value in own.items() if name not in state or shape_of(state[name]) != shape_of(value)]
    if not absent:
        return f'whole model from {source}'
    first = absent[0]
    shapes = 'missing'
    if first in state:
        shapes = f'{tuple(state[first].shape)} in the file, {tuple(own[first].shape)} in the model'
    listed = ', '.join(absent[:12]) + (', ...' if len(absent) > 12 else '')
    return (
        f'model from {source}; WARNING: {len(absent)} of the {len(own)} parameters outside the backbone are missing or '
        f'have a different shape and are newly initialised: {listed} ({first}: {shapes})'
    )


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of a value; scalars have shape (1,), as in sharded models."""
    return tuple(value.shape) or (1,)


def describe_data(runner: Runner) -> str:
    """Describe the number of training and validation images."""
    text = f'{len(runner.train_dataloader.dataset)} training images'
    if runner.val_loop is not None:
        text += f', {len(runner.val_dataloader.dataset)} validation images'
    return text


def describe_batch(runner: Runner) -> str:
    """Describe the images per optimizer step, compared with the recipe's, and the learning rate."""
    per_process = runner.cfg.train_dataloader.batch_size
    accumulated = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    batch = runner.world_size * per_process * accumulated
    text = f'{batch} = {runner.world_size} process(es) x {per_process} images x {accumulated} accumulated step(s)'
    scaling: dict[str, Any] = runner.auto_scale_lr or {}
    # With gradient accumulation, base_batch_size is set for mmengine, which counts a single iteration.
    recipe = scaling.get('recipe_batch_size', scaling.get('base_batch_size'))
    rate = runner.optim_wrapper.param_groups[0].get('initial_lr', runner.optim_wrapper.param_groups[0]['lr'])
    if recipe is None or recipe == batch:
        return f'{text}, as in the recipe; learning rate {rate:g}{describe_norms(runner, batch)}'
    if scaling.get('enable'):
        return f'{text}; the recipe has {recipe}; learning rate scaled to {rate:g}'
    return f'{text}; WARNING: the recipe has {recipe} and the learning rate {rate:g} is not scaled: add --auto-scale-lr'


def describe_processes(runner: Runner) -> dict[str, str]:
    """Describe the strategy of a run with several processes."""
    if runner.world_size == 1:
        return {}
    strategy = runner.cfg.get('strategy', 'ddp')
    return {'strategy': f'{strategy}: {STRATEGIES[strategy]}'}


def describe_norms(runner: Runner, batch: int) -> str:
    """Describe how many images batch norms see if gradients are accumulated."""
    seen = runner.world_size * runner.cfg.train_dataloader.batch_size
    if seen == batch or not any(isinstance(module, _BatchNorm) for module in runner.model.modules()):
        return ''
    return f'; batch norms see {seen} images at a time, not {batch}'


def describe_schedule(runner: Runner) -> str:
    """Describe the length of training."""
    loop = runner.train_loop
    epoch = len(runner.train_dataloader)
    accumulated = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    steps = f', {loop.max_iters // accumulated} optimizer steps' if accumulated > 1 else ''
    return f'{loop.max_iters} iterations{steps} ({loop.max_iters / epoch:.1f} epochs of {epoch})'


def describe_precision(runner: Runner, recipe: str) -> str:
    """Describe the precision of the run, and that of the recipe if it differs."""
    actual = precision_of(type(runner.optim_wrapper).__name__, getattr(runner.optim_wrapper, 'cast_dtype', None))
    if actual == recipe:
        return actual
    return f'{actual} (the recipe has {recipe}{", which needs a GPU" if not has_accelerator() else ""})'


def precision_of(wrapper: str, dtype: Any) -> str:
    """Return a name for the precision of an optimizer wrapper."""
    if wrapper != 'AmpOptimWrapper':
        return 'float32'
    return f'mixed precision ({str(dtype).removeprefix("torch.") if dtype else "float16"})'


def is_installed(package: str) -> bool:
    """Return whether a package is installed."""
    return importlib.util.find_spec(package) is not None


def set_trackers(config: Config, wandb_project: str | None) -> None:
    """Log curves to TensorBoard if it is installed, and to a project of Weights & Biases if one is given.

    Args:
        config: changed in place; its existing backends are kept.
        wandb_project: name of the project, or None.

    Raises:
        InputError: if ``wandb_project`` is given but wandb is not installed.
    """
    backends = list(config.visualizer.get('vis_backends') or [dict(type='LocalVisBackend')])
    present = {backend['type'] for backend in backends}
    if is_installed('tensorboard'):
        if 'TensorboardVisBackend' not in present:
            backends.append(dict(type='TensorboardVisBackend'))
    else:
        print_log('No curves are logged to TensorBoard: pip install tensorboard.', 'current', logging.INFO)
    if wandb_project is not None:
        if not is_installed('wandb'):
            raise InputError('--wandb needs the package wandb, which is not installed: run pip install wandb.')
        backends.append(dict(type='WandbVisBackend', init_kwargs=dict(project=wandb_project)))
    config.visualizer.vis_backends = backends
