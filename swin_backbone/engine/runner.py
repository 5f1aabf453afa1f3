"""mmengine's Runner for our commands: exact resuming, training in shards, the toolkits' words off the screen."""

import logging
import warnings
from contextlib import ExitStack
from typing import Any, cast
from unittest.mock import patch

from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from swin_backbone.engine.error_explanations import shorten
from swin_backbone.engine.loading_errors import name_images
from swin_backbone.engine.loops import EpochLoop, IterationLoop
from swin_backbone.engine.resume import NEW_RUN
from swin_backbone.engine.run_checkpoints import RunCheckpointHook
from swin_backbone.engine.sampling import placed
from swin_backbone.engine.sharding import (
    cut_state,
    initialise,
    is_divided,
    is_sharded,
    shard,
    whole_state,
    whole_weights,
    with_sharded_backbone,
)
from swin_backbone.engine.stop_signals import shield_workers
from swin_backbone.engine.strategies import divided
from swin_backbone.errors import InputError, RunFailure

LOOPS = {'EpochBasedTrainLoop': EpochLoop, 'IterBasedTrainLoop': IterationLoop}
"""What takes the place of mmengine's loops."""

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
"""How messages begin that only the log file gets: several hundred lines a run, most of them the config."""

ABOUT_THE_TOOLKITS = (
    '``build_loss`` would be deprecated',
    'Default ``avg_non_ignore`` is False',
    'The draw is False',
    '`reduce_zero_label` will be deprecated',
    'To copy construct from a tensor',
)
"""Beginnings of warnings that the toolkits' own code causes with any config."""


def quiet_console(logger: MMLogger) -> None:
    """Keep :data:`FOR_THE_FILE` off the screen; the log file still gets it."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(lambda record: not record.getMessage().startswith(FOR_THE_FILE))


def ignore_warnings() -> None:
    """Do not show :data:`ABOUT_THE_TOOLKITS`."""
    for beginning in ABOUT_THE_TOOLKITS:
        warnings.filterwarnings('ignore', message=beginning, category=UserWarning)


class QuietRunner(Runner):
    """mmengine's Runner with a quiet console, exact resuming, and data sets that name an unreadable image."""

    _train_dataloader: Any

    @property
    def strategy(self) -> str:
        """What the processes of this run share, a key of :data:`swin_backbone.engine.strategies.STRATEGIES`."""
        return str(self.cfg.get('strategy', 'ddp')) if self.distributed else 'ddp'

    def build_model(self, model: nn.Module | dict[str, Any]) -> nn.Module:
        """Build the model, its backbone in shards if the strategy is to have some."""
        if self.strategy == 'fsdp' and isinstance(model, dict):
            model = with_sharded_backbone(model)
        return super().build_model(model)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes, or divide it among them."""
        if self.strategy == 'fsdp':
            return shard(model, self.cfg.get('sync_bn'))
        return super().wrap_model(model_wrapper_cfg, model)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the optimizer, with its state divided among the processes for the strategy 'zero'."""
        if self.strategy == 'zero' and isinstance(optim_wrapper, dict):
            optim_wrapper = divided(optim_wrapper)
        built = super().build_optim_wrapper(optim_wrapper)
        if is_sharded(self.model) and built is not optim_wrapper:
            built.optimizer.register_load_state_dict_pre_hook(cut_state)
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
        """Save a checkpoint as one process would; all processes give what they hold."""
        with ExitStack() as stack:
            if is_sharded(self.model):
                weights = whole_weights(self.model)
                stack.enter_context(patch.object(self.model, 'state_dict', return_value=weights))
            if save_optimizer and is_divided(self.optim_wrapper):
                state = whole_state(self.model, self.optim_wrapper)
                stack.enter_context(patch.object(self.optim_wrapper, 'state_dict', return_value=state))
            super().save_checkpoint(out_dir, filename, file_client_args, save_optimizer, **options)

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the loop with its data loader so that it can start anywhere."""
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
        """Scale the learning rate by the batch size, which our loader's batch sampler knows and the loader does not."""
        loader = self._train_dataloader
        if isinstance(loader, DataLoader):
            self._train_dataloader = dict(batch_size=cast(Any, loader.batch_sampler).batch_size)
        try:
            super().scale_lr(optim_wrapper, auto_scale_lr)
        finally:
            self._train_dataloader = loader

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Write checkpoints with our hook where the config asks for mmengine's."""
        hooks = dict(hooks or {})
        own = hooks.get('checkpoint')
        if isinstance(own, dict) and own.get('type') == 'CheckpointHook':
            hooks['checkpoint'] = {**own, 'type': RunCheckpointHook}
        super().register_default_hooks(hooks)

    def resume(self, filename: str, *args: Any, **options: Any) -> None:
        """Take over the state of a run.

        Raises:
            InputError: it does not fit this run.
        """
        try:
            super().resume(filename, *args, **options)
        except (InputError, RunFailure):
            raise
        except Exception as error:  # whatever a state of another run makes mmengine and PyTorch stumble over
            raise InputError(
                f'{filename} cannot be resumed, its state is that of another run or damaged '
                f'({type(error).__name__}: {shorten(str(error))}): {NEW_RUN}'
            ) from error

    def build_logger(self, *args: Any, **options: Any) -> MMLogger:
        """The Runner logs its environment and its config as soon as this returns."""
        logger = super().build_logger(*args, **options)
        quiet_console(logger)
        return logger

    def _maybe_compile(self, target: str) -> None:
        """Compile the forward pass of the model, whatever the step: what surrounds it cannot be traced.

        That is the optimizer with its groups of parameters, and the check of the loss.
        """
        if not hasattr(self.model.forward, 'get_compiler_config'):
            super()._maybe_compile('forward')

    @staticmethod
    def build_dataloader(*args: Any, **options: Any) -> DataLoader:
        """The loops call this, and start workers at once."""
        loader = Runner.build_dataloader(*args, **options)
        name_images(loader.dataset)
        shield_workers(loader)
        return loader
