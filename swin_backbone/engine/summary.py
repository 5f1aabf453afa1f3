"""What a run is about to do, in a few lines, before it does it."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from swin_backbone.openmmlab import mmcv_operators


class StopBeforeTraining(Exception):
    """Ends a dry run: everything is built, initialised and loaded, and nothing is trained."""


class StartSummaryHook(Hook):
    """Logs a summary when everything is built and loaded, right before the first iteration.

    Args:
        recipe_precision: what the config asked for, before it was fitted to this machine.
        dry_run: end there, with :class:`StopBeforeTraining`.
    """

    priority = 'VERY_LOW'

    def __init__(self, recipe_precision: str, dry_run: bool = False) -> None:
        self.recipe_precision = recipe_precision
        self.dry_run = dry_run

    def before_train(self, runner: Runner) -> None:
        """Called by the Runner after weights and checkpoints are loaded."""
        lines = [f'  {name:<10} {text}' for name, text in describe(runner, self.recipe_precision).items()]
        runner.logger.info('This run:\n' + '\n'.join(lines))
        if self.dry_run:
            raise StopBeforeTraining


def describe(runner: Runner, recipe_precision: str) -> dict[str, str]:
    """Model, weights, data, batch, schedule and precision of a run, a sentence each."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return {
        'model': describe_model(model),
        'weights': describe_weights(runner, model),
        'data': describe_data(runner),
        'batch': describe_batch(runner),
        'schedule': describe_schedule(runner),
        'precision': describe_precision(runner, recipe_precision),
        'operators': mmcv_operators(),
        'work dir': runner.work_dir,
    }


def describe_model(model: nn.Module) -> str:
    """Class names and parameter counts."""
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    names = f'{type(model).__name__} on {type(model.backbone).__name__}'
    return f'{names}, {total / 1e6:.2f}M parameters, {trained / 1e6:.2f}M of them trained'


def describe_weights(runner: Runner, model: nn.Module) -> str:
    """Where the weights come from and how much of the backbone they cover."""
    if runner._resume and runner.iter > 0:
        return f'resumed after {runner.iter} iterations'
    if runner._load_from:
        return f'whole model from {runner._load_from}'
    init = getattr(model.backbone, 'init_cfg', None)
    if not init:
        return 'none: trained from scratch'
    report = getattr(model.backbone, 'load_report', None)
    return str(report) if report is not None else f'backbone: {init}'


def describe_data(runner: Runner) -> str:
    """Pictures to train on and to evaluate on."""
    text = f'{len(runner.train_dataloader.dataset)} training pictures'
    if runner.val_loop is not None:
        text += f', {len(runner.val_dataloader.dataset)} validation pictures'
    return text


def describe_batch(runner: Runner) -> str:
    """Pictures per optimiser step against the recipe's, and what became of the learning rate."""
    per_process = runner.cfg.train_dataloader.batch_size
    accumulated = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    batch = runner.world_size * per_process * accumulated
    text = f'{batch} = {runner.world_size} process(es) x {per_process} pictures x {accumulated} accumulated step(s)'
    scaling: dict[str, Any] = runner.auto_scale_lr or {}
    recipe = scaling.get('base_batch_size')
    rate = runner.optim_wrapper.param_groups[0].get('initial_lr', runner.optim_wrapper.param_groups[0]['lr'])
    if recipe is None or recipe == batch:
        return f'{text}, as in the recipe; learning rate {rate:g}'
    if scaling.get('enable'):
        return f'{text}; the recipe has {recipe}; learning rate scaled to {rate:g}'
    return f'{text}; WARNING: the recipe has {recipe} and the learning rate {rate:g} is not scaled: add --auto-scale-lr'


def describe_schedule(runner: Runner) -> str:
    """Length of the training."""
    loop = runner.train_loop
    epoch = len(runner.train_dataloader)
    return f'{loop.max_iters} iterations ({loop.max_iters / epoch:.1f} epochs of {epoch})'


def describe_precision(runner: Runner, recipe: str) -> str:
    """The arithmetic of the run, and what the recipe asked for where that differs."""
    actual = precision_of(type(runner.optim_wrapper).__name__, getattr(runner.optim_wrapper, 'cast_dtype', None))
    return actual if actual == recipe else f'{actual} (the recipe has {recipe}, which needs a GPU)'


def precision_of(wrapper: str, dtype: Any) -> str:
    """A name for the arithmetic of an optimiser wrapper."""
    if wrapper != 'AmpOptimWrapper':
        return 'float32'
    return f'mixed precision ({str(dtype).removeprefix("torch.") if dtype else "float16"})'
