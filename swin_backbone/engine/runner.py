"""mmengine's Runner with exact resuming, sharded training and less console output."""

import logging
import warnings
from contextlib import ExitStack
from typing import Any, cast
from unittest.mock import patch

from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from swin_backbone.engine.error_explanations import shorten
from swin_backbone.engine.loading_errors import name_images
from swin_backbone.engine.loops import EpochLoop, IterationLoop
from swin_backbone.engine.resume import NEW_RUN
from swin_backbone.engine.run_checkpoints import RunCheckpointHook
from swin_backbone.engine.sampling import placed
from swin_backbone.engine.sharding import (
    initialise,
    is_divided,
    is_sharded,
    shard,
    shard_loaded_state,
    whole_state,
    whole_weights,
    with_sharded_backbone,
)
from swin_backbone.engine.stop_signals import shield_workers
from swin_backbone.engine.strategies import with_zero
from swin_backbone.errors import InputError, RunFailure

LOOPS = {'EpochBasedTrainLoop': EpochLoop, 'IterBasedTrainLoop': IterationLoop}
"""Replacements for mmengine's loops."""

FOR_THE_FILE = (
    '\n' + '-' * 60 + '\nSystem environment',
    'Config:\n',
    'Hooks will be executed in the following order',
    'Distributed training is not used, all SyncBatchNorm',
    'paramwise_options --',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'The prefix is not set in metric class',
    'Exp name: ',
    'Advance dataloader ',
)
"""Beginnings of messages that are written to the log file only: several hundred lines per run, mostly the config."""

ABOUT_THE_TOOLKITS = (
    '``build_loss`` would be deprecated',
    'Default ``avg_non_ignore`` is False',
    'The draw is False',
    '`reduce_zero_label` will be deprecated',
    'To copy construct from a tensor',
)
"""Beginnings of warnings that the toolkits' code causes with any config."""


def quiet_console(logger: MMLogger) -> None:
    """Hide :data:`FOR_THE_FILE` on the console; they are still written to the log file."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(lambda record: not record.getMessage().startswith(FOR_THE_FILE))


def ignore_warnings() -> None:
    """Suppress :data:`ABOUT_THE_TOOLKITS`."""
    for beginning in ABOUT_THE_TOOLKITS:
        warnings.filterwarnings('ignore', message=beginning, category=UserWarning)


class QuietRunner(Runner):
    """mmengine's Runner with less console output, exact resuming, and errors that name unreadable images."""

    _train_dataloader: Any

    @property
    def strategy(self) -> str:
        """The parallelisation strategy, a key of :data:`swin_backbone.engine.strategies.STRATEGIES`."""
        return str(self.cfg.get('strategy', 'ddp')) if self.distributed else 'ddp'

    def build_model(self, model: nn.Module | dict[str, Any]) -> nn.Module:
        """Build the model; with the strategy 'fsdp', the backbone is built in shards."""
        if self.strategy == 'fsdp' and isinstance(model, dict):
            model = with_sharded_backbone(model)
        return super().build_model(model)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Wrap the model for distributed training; with the strategy 'fsdp', shard it."""
        if self.strategy == 'fsdp':
            return shard(model, self.cfg.get('sync_bn'))
        return super().wrap_model(model_wrapper_cfg, model)

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """Build the visualizer under the name of the run.

        By the name in the config, mmengine would return the visualizer of an earlier run in this process, which writes
        to the earlier work dir.
        """
        if isinstance(visualizer, dict):
            visualizer = {**visualizer, 'name': self.experiment_name}
        return super().build_visualizer(visualizer)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the optimizer; with the strategy 'zero', its state is divided among the processes."""
        if self.strategy == 'zero' and isinstance(optim_wrapper, dict):
            optim_wrapper = with_zero(optim_wrapper)
        built = super().build_optim_wrapper(optim_wrapper)
        if is_sharded(self.model) and built is not optim_wrapper:
            built.optimizer.register_load_state_dict_pre_hook(shard_loaded_state)
        return built

    def _init_model_weights(self) -> None:
        """Initialise the model."""
        if is_sharded(self.model):
            initialise(self.model)
        else:
            super()._init_model_weights()

    def save_checkpoint(
        self, out_dir: str, filename: str, file_client_args: Any = None, save_optimizer: bool = True, **options: Any
    ) -> None:
        """Save the same checkpoint as a single process; all processes contribute their shards."""
        with ExitStack() as stack:
            if is_sharded(self.model):
                weights = whole_weights(self.model)
                stack.enter_context(patch.object(self.model, 'state_dict', return_value=weights))
            if save_optimizer and is_divided(self.optim_wrapper):
                state = whole_state(self.model, self.optim_wrapper)
                stack.enter_context(patch.object(self.optim_wrapper, 'state_dict', return_value=state))
            super().save_checkpoint(out_dir, filename, file_client_args, save_optimizer, **options)

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the loop with a data loader that can start at any iteration."""
        if isinstance(loop, BaseLoop) or not isinstance(self._train_dataloader, dict):
            return super().build_train_loop(loop)
        self._train_dataloader = self.build_dataloader(
            placed(self._train_dataloader, self.seed), self.seed, self._randomness_cfg.get('diff_rank_seed', False)
        )
        options = dict(loop)
        by_epoch = options.pop('by_epoch', None)
        kind = options.get('type', 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop')
        return super().build_train_loop({**options, 'type': LOOPS.get(kind, kind)})

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: dict[str, Any] | None = None) -> None:
        """Scale the learning rate by the batch size, which our data loader stores in its batch sampler."""
        loader = self._train_dataloader
        if isinstance(loader, DataLoader):
            self._train_dataloader = dict(batch_size=cast(Any, loader.batch_sampler).batch_size)
        try:
            super().scale_lr(optim_wrapper, auto_scale_lr)
        finally:
            self._train_dataloader = loader

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Replace mmengine's checkpoint hook by :class:`RunCheckpointHook`."""
        hooks = dict(hooks or {})
        own = hooks.get('checkpoint')
        if isinstance(own, dict) and own.get('type') == 'CheckpointHook':
            hooks['checkpoint'] = {**own, 'type': RunCheckpointHook}
        super().register_default_hooks(hooks)

    def resume(self, filename: str, *args: Any, **options: Any) -> None:
        """Resume the state of a run.

        Raises:
            InputError: if it does not match this run.
        """
        try:
            super().resume(filename, *args, **options)
        except (InputError, RunFailure):
            raise
        except Exception as error:  # mmengine and PyTorch raise many types for a mismatched state
            raise InputError(
                f'{filename} cannot be resumed, because its state belongs to a different run or is damaged '
                f'({type(error).__name__}: {shorten(str(error))}): {NEW_RUN}'
            ) from error

    def build_logger(self, *args: Any, **options: Any) -> MMLogger:
        """Build the logger and filter its console output, before the Runner logs its environment and config."""
        logger = super().build_logger(*args, **options)
        quiet_console(logger)
        return logger

    def _maybe_compile(self, target: str) -> None:
        """Compile only the forward pass of the model: the optimizer step and the loss check cannot be traced."""
        if not hasattr(self.model.forward, 'get_compiler_config'):
            super()._maybe_compile('forward')

    @staticmethod
    def build_dataloader(*args: Any, **options: Any) -> DataLoader:
        """Build a data loader whose errors name the image and whose workers ignore stop signals."""
        loader = Runner.build_dataloader(*args, **options)
        name_images(loader.dataset)
        shield_workers(loader)
        return loader
