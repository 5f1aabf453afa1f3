"""Stops training whose loss is NaN or infinite, names the module where that began, and saves the batch."""

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
"""Iterations with a loss that is not finite that the loss scaler may skip in a row: skipping changes no weights, so
waiting longer would not help."""

EXPLOSION = 100.0
"""Multiple of the running median above which a gradient norm is worth a warning."""

NORMS, FEWEST_NORMS = 100, 20
"""Gradient norms that the running median covers, and how many it needs."""

SHOWN = 4
"""Losses and images that the message names; the log names all images."""


@dataclass
class Report:
    """The first iteration of a row of iterations with a loss that is not finite.

    Attributes:
        iteration: counted from 1.
        losses: the losses that are not finite on this process, by name.
        cause: which parameter, or which module's output, is not finite.
        images: paths, or else ids, of the images of the batch.
        file: where the batch is saved.
    """

    iteration: int
    losses: dict[str, float]
    cause: str
    images: list[str]
    file: Path


class FiniteLossHook(Hook):
    """Ends training with :class:`RunFailure` when the loss is not finite.

    The loss is read before the backward pass, while the weights that produced it still exist. With a loss scaler
    (fp16), an iteration counts only if the scaler does not skip its step.

    Args:
        patience: iterations in a row with such a loss that end training; 0 switches the hook off.

    Raises:
        InputError: ``patience`` is no integer of at least 0.
    """

    priority = 'LOW'  # after the logger, before checkpoints are written

    def __init__(self, patience: int = 1) -> None:
        if not isinstance(patience, int) or patience < 0:
            raise InputError(
                f'nonfinite_patience must be an integer of at least 0, got {patience!r}: give the number of '
                'iterations in a row with a NaN or infinite loss that end training, or 0 to train on.'
            )
        self.patience = patience
        self.scaled = self.warned = False
        self.stepped: list[Tensor | None] = []
        self.forget()

    def forget(self) -> None:
        """Begin a new row of iterations."""
        self.bad = self.skipped = self.undecided = 0
        self.report: Report | None = None
        self.content: dict[str, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Read every loss from now on."""
        if self.patience == 0:
            return
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        self.scaled = scaler is not None and scaler.is_enabled()
        if self.scaled:
            # Optimizers that skip a step by themselves get the scaler's verdict as an attribute.
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
        """Remember what repeats the forward pass of this iteration."""
        if self.patience:
            self.stepped.clear()
            self.iteration, self.batch, self.state = runner.iter + 1, data_batch, random_state()

    def check(self, runner: Runner, loss: Tensor, logged: Mapping[str, Tensor]) -> None:
        """Examine the loss of this iteration, before its backward pass.

        Raises:
            RunFailure: it is not finite, and the patience is exhausted.
        """
        if finite_everywhere(loss):
            if not self.undecided:
                self.forget()
            return
        if self.report is None:
            self.examine(runner, {**logged, 'loss': loss})
        self.undecided += 1
        if not self.scaled:
            self.decide(runner, skipped=False)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Decide once the loss scaler has, and watch the norm of the gradients."""
        if self.patience == 0:
            return
        if self.undecided and runner.optim_wrapper.should_update():
            self.decide(runner, skipped=all(found is not None and found.item() for found in self.stepped))
        self.watch_gradients(runner)

    def decide(self, runner: Runner, skipped: bool) -> None:
        """Count the undecided iterations, and stop where that exhausts the patience.

        Raises:
            RunFailure: it does.
        """
        self.skipped = self.skipped + self.undecided if skipped else 0
        self.bad += 0 if skipped else self.undecided
        self.undecided = 0
        if self.report is not None and (self.bad >= self.patience or self.skipped >= SKIPPED_IN_A_ROW):
            self.stop(runner, self.report)

    def examine(self, runner: Runner, logged: Mapping[str, Tensor]) -> None:
        """Find where the numbers stop being finite, by a second forward pass in all processes."""
        model, rank = unwrap(runner.model), runner.rank
        losses = {name: value.mean().item() for name, value in logged.items() if not torch.isfinite(value).all()}
        parameter = broken_parameter(model)
        output = first_broken_output(model, self.batch, runner.optim_wrapper, self.state)
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
        """Save the batch and end training.

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
            f'{f", and {row} times in a row" if row > 1 else ""}: {report.cause}. The batch'
            f'{f" ({shown})" if shown else ""} and the random state are saved in {report.file}; see '
            '"NaN or infinite loss" in docs/troubleshooting.md.'
        )
        runner.logger.error('\n  '.join([f'Training stopped: {message}', *report.images]))
        raise RunFailure(message)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuse to write weights that are not finite."""
        self.refuse_weights(runner, checkpoint['state_dict'] if is_sharded(unwrap(runner.model)) else None)

    def after_train(self, runner: Runner) -> None:
        """Refuse to end with such weights as if the run were fine."""
        self.refuse_weights(runner)

    def refuse_weights(self, runner: Runner, gathered: Mapping[str, Tensor] | None = None) -> None:
        """Stop if a parameter is not finite.

        Args:
            runner: with the model.
            gathered: its state dict if it is in shards, and only one process examines it.

        Raises:
            RunFailure: one is not.
        """
        parameter = broken_parameter(unwrap(runner.model), gathered) if self.patience else None
        if parameter is None:
            return
        if self.report is not None:
            self.stop(runner, self.report)
        raise RunFailure(
            f'{parameter} is not finite after iteration {self.iteration}, whose loss was finite: its gradients were '
            'not, or the learning rate is too high. These weights were not saved; see "NaN or infinite loss" in '
            'docs/troubleshooting.md.'
        )

    def watch_gradients(self, runner: Runner) -> None:
        """Warn once of a norm far above the running median; there are norms only where the config clips gradients."""
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
            f'times the median of the {len(before)} before; further such norms are not reported.'
        )


def shorten(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f' and {len(names) - SHOWN} more' if names[SHOWN:] else ''
    return ', '.join(names[:SHOWN]) + more


def unwrap(model: nn.Module) -> Any:
    """The detector or segmenter inside a wrapper for distributed training."""
    return model.module if is_model_wrapper(model) else model


def finite_everywhere(loss: Tensor) -> bool:
    """Whether a loss is finite on all processes; waits for the device."""
    finite = torch.isfinite(torch.as_tensor(loss).detach()).all().int()
    if dist.get_world_size() > 1:
        dist.all_reduce(finite, 'min')
    return bool(finite.item())


def leaves(node: Any) -> Iterator[Any]:
    """What nested dicts, lists and data elements hold."""
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
    """Whether every floating-point tensor inside the output of a module is finite."""
    tensors = (leaf for leaf in leaves(output) if isinstance(leaf, Tensor))
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point())


def broken_parameter(model: nn.Module, values: Mapping[str, Tensor] | None = None) -> str | None:
    """'parameter NAME' of the first parameter that is not finite, or has such a value, and how many more there are."""
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    names = [name for name, parameter in parameters.items() if not is_finite((values or parameters)[name])]
    return f'parameter {names[0]}{f" (and {len(names) - 1} more)" if names[1:] else ""}' if names else None


def first_broken_output(model: Any, batch: Any, optim_wrapper: Any, state: dict[str, Any]) -> str:
    """Repeat the forward pass of a training step and name the first module whose output is not finite.

    Args:
        model: an mmengine ``BaseModel``; its buffers are left as they are.
        batch: what the data loader gave.
        optim_wrapper: gives the precision of the forward pass.
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
        # Some models raise an error on NaN, after the place that is searched.
        with suppress(Exception), own_buffers(model), seeded(state), torch.no_grad(), precision:
            model._run_forward(model.data_preprocessor(batch, True), mode='loss')
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        return 'the output of every module was finite when the forward pass was repeated'
    name = found[0] or f'{type(model).__name__}, and of no module inside it'
    return f'the first output that is not finite is that of {name}'


@contextmanager
def own_buffers(model: nn.Module) -> Iterator[None]:
    """Let a model write into copies of its buffers: the backward pass still needs the statistics of norms."""
    owners = [(module, *found) for module in model.modules() for found in module.named_buffers(recurse=False)]
    for module, name, buffer in owners:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in owners:
            setattr(module, name, buffer)


def random_state() -> dict[str, Any]:
    """The state of every random generator that a model may use."""
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
    """Use a :func:`random_state`, and restore the present one afterwards."""
    before = random_state()
    set_random_state(state)
    try:
        yield
    finally:
        set_random_state(before)


def images(batch: Any) -> Iterator[str]:
    """Paths, or else ids, of the images in a batch."""
    if isinstance(batch, BaseDataElement):
        name = batch.metainfo.get('img_path', batch.metainfo.get('img_id'))
        if name is not None:
            yield str(name)
    elif isinstance(batch, (Mapping, list, tuple)):
        for child in batch.values() if isinstance(batch, Mapping) else batch:
            yield from images(child)
