"""Random numbers that depend on the position in a run, so that a resumed run draws what an uninterrupted one draws."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from swin_backbone.engine.finite_loss import random_state, set_random_state

SAMPLES, STEPS = 0, 1
"""Kinds of streams, which share no numbers."""


def seed_sample(seed: int, epoch: int, index: int) -> None:
    """Seed Python's, numpy's and PyTorch's CPU generator for a sample of the data set."""
    words = np.random.SeedSequence((seed, SAMPLES, epoch, index)).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    # torch.manual_seed would reach for the GPU in every worker process.
    torch.default_generator.manual_seed(int.from_bytes(words[:2].tobytes(), 'little'))


def seed_step(seed: int, rank: int, iteration: int) -> None:
    """Seed every generator that a model may use, for a training step."""
    words = np.random.SeedSequence((seed, STEPS, rank, iteration)).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    torch.manual_seed(int.from_bytes(words[:2].tobytes(), 'little'))


class RandomStateHook(Hook):
    """Gives each training step random numbers of its own, and keeps the state of the generators in checkpoints.

    Evaluation, and loading in the main process, therefore do not change what the next step draws.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Go on with the state of a run that is resumed."""
        if runner._resume and 'random_state' in checkpoint:
            set_plain_state(checkpoint['random_state'])

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the step, whose batch is loaded already."""
        seed_step(runner.seed, runner.rank, runner.iter)

    def before_val(self, runner: Runner) -> None:
        """Remember the state before an evaluation."""
        self.outside = random_state()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Go on with it, before anything is saved."""
        set_random_state(self.outside)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the state to a checkpoint."""
        checkpoint['random_state'] = plain_state()


def plain_state() -> dict[str, Any]:
    """The state of all generators as tensors and numbers, which a checkpoint may hold."""
    kind, words, *rest = np.random.get_state()
    state: dict[str, Any] = dict(
        python=random.getstate(), numpy=(kind, [int(word) for word in words], *rest), torch=torch.get_rng_state()
    )
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state_all()
    return state


def set_plain_state(state: dict[str, Any]) -> None:
    """Restore a :func:`plain_state`; of GPUs, as many as there are."""
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'].cpu())
    for device, values in enumerate(state.get('cuda', ())[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(values.cpu(), device)
