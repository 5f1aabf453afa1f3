"""Random numbers that depend on the position in a run, so that a resumed run equals an uninterrupted one."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from swin_backbone.engine.finite_loss import random_state, set_random_state

SAMPLES, STEPS = 0, 1
"""Ids of independent random streams: data samples and training steps."""


def seed_sample(seed: int, epoch: int, index: int) -> None:
    """Seed Python's, numpy's and PyTorch's CPU generator for a sample of the data set."""
    words = np.random.SeedSequence((seed, SAMPLES, epoch, index)).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    # torch.manual_seed would initialise the GPU in every worker process.
    torch.default_generator.manual_seed(int.from_bytes(words[:2].tobytes(), 'little'))


def seed_step(seed: int, rank: int, iteration: int) -> None:
    """Seed every random number generator that a model may use, for one training step."""
    words = np.random.SeedSequence((seed, STEPS, rank, iteration)).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    torch.manual_seed(int.from_bytes(words[:2].tobytes(), 'little'))


class RandomStateHook(Hook):
    """Seeds each training step, and saves the state of the random number generators in checkpoints.

    Random numbers drawn by an evaluation or by loading in the main process therefore do not affect training steps.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore the state of a resumed run."""
        if runner._resume and 'random_state' in checkpoint:
            set_plain_state(checkpoint['random_state'])

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the step after its batch is loaded."""
        seed_step(runner.seed, runner.rank, runner.iter)

    def before_val(self, runner: Runner) -> None:
        """Save the state before an evaluation."""
        self.outside = random_state()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Restore the state before checkpoints are saved."""
        set_random_state(self.outside)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the state to a checkpoint."""
        checkpoint['random_state'] = plain_state()


def plain_state() -> dict[str, Any]:
    """Return the state of all generators as tensors and numbers, which a checkpoint may contain."""
    kind, words, *rest = np.random.get_state()
    state: dict[str, Any] = dict(
        python=random.getstate(), numpy=(kind, [int(word) for word in words], *rest), torch=torch.get_rng_state()
    )
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state_all()
    return state


def set_plain_state(state: dict[str, Any]) -> None:
    """Restore a :func:`plain_state` for the CPU and the available GPUs."""
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'].cpu())
    for device, values in enumerate(state.get('cuda', ())[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(values.cpu(), device)
