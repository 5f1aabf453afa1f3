"""Hook that stops training when the loss is NaN or infinite, reports the first affected module and saves the batch."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from swin_backbone.engine.sharding import is_sharded, whole_weights
from swin_backbone.errors import InputError, RunFailure
from swin_backbone.files import replacing

SKIPPED_IN_A_ROW = 100
"""Consecutive iterations that the loss scaler may skip because the loss is not finite. Skipping does not change the
weights, so waiting longer would not help."""

EXPLOSION = 100.0
"""Multiple of the running median above which a gradient norm causes a warning."""

NORMS, FEWEST_NORMS = 100, 20
"""Number of gradient norms in the running median, and the minimum it needs."""

SHOWN = 4
"""Number of losses and images in the message; the log lists all images."""


@dataclass
class Report:
    """The first of several consecutive iterations with a loss that is not finite.

    Attributes:
        iteration: counted from 1.
        losses: the losses that are not finite on this process, by name.
        cause: the parameter or module output that is not finite.
        images: paths or, if unknown, ids of the images in the batch.
        file: where the batch is saved.
    """

    iteration: int
    losses: dict[str, float]
    cause: str
    images: list[str]
    file: Path


class FiniteLossHook(Hook):
    """Stops training with :class:`RunFailure` when the loss is not finite.

    The loss is checked before the backward pass, while the weights that produced it still exist. With a loss scaler
    (fp16), an iteration counts only if the scaler does not skip its step.

    Args:
        patience: number of consecutive iterations with such a loss that stop training; 0 disables the hook.

    Raises:
        InputError: if ``patience`` is not an integer of at least 0.
    """

    priority = 'LOW'  # after the logger, before checkpoints are written

    def __init__(self, patience: int = 1) -> None:
        if not isinstance(patience, int) or patience < 0:
            raise InputError(
                f'nonfinite_patience must be an integer of at least 0, got {patience!r}: set the number of consecutive '
                'iterations with a NaN or infinite loss that stop training, or 0 to disable the check.'
            )
        self.patience = patience
        self.scaled = self.warned = False
        self.stepped: list[Tensor | None] = []
        self.reset_counts()

    def reset_counts(self) -> None:
        """Reset the counts after a finite loss."""
        self.bad = self.skipped = self.undecided = 0
        self.report: Report | None = None
        self.content: dict[str, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Wrap ``parse_losses`` of the model so that every loss is checked."""
        if self.patience == 0:
            return
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        self.scaled = scaler is not None and scaler.is_enabled()
        if self.scaled:
            # Optimizers that handle skipped steps themselves get the scaler's decision as an attribute.
            runner.optim_wrapper.optimizer.register_step_pre_hook(
                lambda optimizer, args, kwargs: self.stepped.append(getattr(optimizer, 'found_inf', None))
            )
        model = unwrap(runner.model)
        parse_losses = model.parse_losses

        def checked(losses: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
            loss, logged = parse_losses(losses)
            self.check(runner, loss, logged)
            return loss, logged

        model.parse_losses = checked

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Save the batch and random state, with which the forward pass of this iteration can be repeated."""
        if self.patience:
            self.stepped.clear()
            self.iteration, self.batch, self.state = runner.iter + 1, data_batch, random_state()

    def check(self, runner: Runner, loss: Tensor, logged: Mapping[str, Tensor]) -> None:
        """Check the loss of this iteration before its backward pass.

        Raises:
            RunFailure: if it is not finite and the patience is exhausted.
        """
        if finite_everywhere(loss):
            if not self.undecided:
                self.reset_counts()
            return
        if self.report is None:
            self.examine(runner, {**logged, 'loss': loss})
        self.undecided += 1
        if not self.scaled:
            self.decide(runner, skipped=False)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Count the iteration once the loss scaler has decided on its step, and check the gradient norm."""
        if self.patience == 0:
            return
        if self.undecided and runner.optim_wrapper.should_update():
            self.decide(runner, skipped=all(found is not None and found.item() for found in self.stepped))
        self.watch_gradients(runner)

    def decide(self, runner: Runner, skipped: bool) -> None:
        """Count the undecided iterations.

        Raises:
            RunFailure: if the patience is exhausted.
        """
        self.skipped = self.skipped + self.undecided if skipped else 0
        self.bad += 0 if skipped else self.undecided
        self.undecided = 0
        if self.report is not None and (self.bad >= self.patience or self.skipped >= SKIPPED_IN_A_ROW):
            self.stop(runner, self.report)

    def examine(self, runner: Runner, logged: Mapping[str, Tensor]) -> None:
        """Find the first module with a non-finite output by repeating the forward pass in all processes."""
        model, rank = unwrap(runner.model), runner.rank
        losses = {name: value.mean().item() for name, value in logged.items() if not torch.isfinite(value).all()}
        parameter = non_finite_parameter(model)
        output = first_non_finite_output(model, self.batch, runner.optim_wrapper, self.state)
        report = Report(
            iteration=self.iteration,
            losses={name: value for name, value in losses.items() if name != 'loss'} or losses,  # 'loss' is the sum
            cause=f'{parameter} is not finite before this iteration' if parameter else output,
            images=list(images(self.batch)),
            file=Path(runner.work_dir) / f'nonfinite_batch{f"_rank{rank}" if rank else ""}.pth',
        )
        self.report = next(found for found in dist.all_gather_object(report) if found.losses)
        if losses:
            self.content = dict(vars(report), batch=self.batch, random_state=self.state)

    def stop(self, runner: Runner, report: Report) -> None:
        """Save the batch and stop training.

        Raises:
            RunFailure: always.
        """
        model = unwrap(runner.model)
        state = whole_weights(model) if is_sharded(model) else model.state_dict()
        if self.content:
            if self.patience == 1 and not self.scaled:  # the optimizer has not stepped since
                self.content['state_dict'] = {k: v.cpu() for k, v in state.items()}
            file = self.content.pop('file')
            with replacing(file) as part:
                torch.save(self.content, part)
        row = max(self.bad, self.skipped)
        losses, shown = shorten([f'{name} {value}' for name, value in report.losses.items()]), shorten(report.images)
        message = (
            f'the loss is not finite at iteration {report.iteration} ({losses})'
            f'{f", {row} iterations in a row" if row > 1 else ""}: {report.cause}. The batch'
            f'{f" ({shown})" if shown else ""} and the random state are saved in {report.file}; see '
            '"NaN or infinite loss" in docs/troubleshooting.md.'
        )
        runner.logger.error('\n  '.join([f'Training stopped: {message}', *report.images]))
        raise RunFailure(message)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check that no non-finite weights are saved."""
        self.check_weights(runner, checkpoint['state_dict'] if is_sharded(unwrap(runner.model)) else None)

    def after_train(self, runner: Runner) -> None:
        """Check that training does not finish with non-finite weights."""
        self.check_weights(runner)

    def check_weights(self, runner: Runner, gathered: Mapping[str, Tensor] | None = None) -> None:
        """Check that every parameter is finite.

        Args:
            runner: the runner with the model.
            gathered: the gathered state dict of a sharded model, which only one process has.

        Raises:
            RunFailure: if a parameter is not finite.
        """
        parameter = non_finite_parameter(unwrap(runner.model), gathered) if self.patience else None
        if parameter is None:
            return
        if self.report is not None:
            self.stop(runner, self.report)
        raise RunFailure(
            f'{parameter} is not finite after iteration {self.iteration}, although the loss was finite: the gradients '
            'were not finite, or the learning rate is too high. These weights were not saved; see "NaN or infinite '
            'loss" in docs/troubleshooting.md.'
        )

    def watch_gradients(self, runner: Runner) -> None:
        """Warn once if the gradient norm is far above its running median; it is logged only with gradient clipping."""
        history = runner.message_hub.log_scalars.get('train/grad_norm')
        if self.warned or history is None:
            return
        norms = np.asarray(history.data[0][-NORMS - 1 :])
        before = norms[:-1][np.isfinite(norms[:-1])]
        if len(before) < FEWEST_NORMS or not EXPLOSION * np.median(before) < norms[-1] < np.inf:
            return
        self.warned = True
        runner.logger.warning(
            f'The gradient norm is {norms[-1]:.3g} at iteration {self.iteration}, {norms[-1] / np.median(before):.0f} '
            f'times the median of the previous {len(before)}. This warning is shown only once.'
        )


def shorten(names: list[str]) -> str:
    """Join the first :data:`SHOWN` names and the count of the others."""
    more = f' and {len(names) - SHOWN} more' if names[SHOWN:] else ''
    return ', '.join(names[:SHOWN]) + more


def unwrap(model: nn.Module) -> Any:
    """Return the model without its wrapper for distributed training."""
    return model.module if is_model_wrapper(model) else model


def finite_everywhere(loss: Tensor) -> bool:
    """Return whether a loss is finite in all processes; synchronises with the device."""
    finite = torch.isfinite(torch.as_tensor(loss).detach()).all().int()
    if dist.get_world_size() > 1:
        dist.all_reduce(finite, 'min')
    return bool(finite.item())


def leaves(node: Any) -> Iterator[Any]:
    """Yield the leaves of nested dicts, lists and data elements."""
    if isinstance(node, BaseDataElement):
        node = node.values()
    elif isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from leaves(child)
    else:
        yield node


def is_finite(output: Any) -> bool:
    """Return whether every floating-point tensor in the output of a module is finite."""
    tensors = (leaf for leaf in leaves(output) if isinstance(leaf, Tensor))
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point())


def non_finite_parameter(model: nn.Module, values: Mapping[str, Tensor] | None = None) -> str | None:
    """Return 'parameter NAME (and N more)' for the first non-finite parameter, or None.

    Args:
        model: the model.
        values: values to check instead of the parameters, by parameter name.
    """
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    names = [name for name, parameter in parameters.items() if not is_finite((values or parameters)[name])]
    return f'parameter {names[0]}{f" (and {len(names) - 1} more)" if names[1:] else ""}' if names else None


def first_non_finite_output(model: Any, batch: Any, optim_wrapper: Any, state: dict[str, Any]) -> str:
    """Repeat the forward pass of a training step and return which module output is the first non-finite one.

    Args:
        model: an mmengine ``BaseModel``; its buffers are not changed.
        batch: the batch from the data loader.
        optim_wrapper: determines the precision of the forward pass.
        state: the :func:`random_state` before the step.
    """
    found: list[str] = []
    precision = optim_wrapper.optim_context(model)

    def watch(name: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not is_finite(output):
                found.append(name)

        return look

    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    try:
        # Some models raise an error on NaN, but only after the module that is searched for.
        with suppress(Exception), copied_buffers(model), seeded(state), torch.no_grad(), precision:
            model._run_forward(model.data_preprocessor(batch, True), mode='loss')
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        return 'the output of every module was finite when the forward pass was repeated'
    name = found[0] or f'{type(model).__name__} itself, not of a submodule'
    return f'the first output that is not finite is that of {name}'


@contextmanager
def copied_buffers(model: nn.Module) -> Iterator[None]:
    """Replace the buffers of a model by copies, because the backward pass still needs the statistics of norms."""
    owners = [(module, *found) for module in model.modules() for found in module.named_buffers(recurse=False)]
    for module, name, buffer in owners:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in owners:
            setattr(module, name, buffer)


def random_state() -> dict[str, Any]:
    """Return the state of every random number generator that a model may use."""
    state = dict(python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state())
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Restore a :func:`random_state`."""
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'])
    if 'cuda' in state:
        torch.cuda.set_rng_state(state['cuda'])


@contextmanager
def seeded(state: dict[str, Any]) -> Iterator[None]:
    """Use a :func:`random_state`, and restore the current one on exit."""
    before = random_state()
    set_random_state(state)
    try:
        yield
    finally:
        set_random_state(before)


def images(batch: Any) -> Iterator[str]:
    """Yield the paths or, if unknown, the ids of the images in a batch."""
    if isinstance(batch, BaseDataElement):
        name = batch.metainfo.get('img_path', batch.metainfo.get('img_id'))
        if name is not None:
            yield str(name)
    elif isinstance(batch, (Mapping, list, tuple)):
        for child in batch.values() if isinstance(batch, Mapping) else batch:
            yield from images(child)
