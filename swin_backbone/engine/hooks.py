"""Hooks that the commands add to a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner, find_latest_checkpoint

from swin_backbone.engine.checkpoints import check_backbones, load_whole
from swin_backbone.engine.resume import check_state
from swin_backbone.engine.run_checkpoints import EVALUATED
from swin_backbone.evaluation.drawing import Image
from swin_backbone.evaluation.gallery import draw_cell, write_sheet


class PredictionSheetHook(Hook):
    """Draws the first images of each evaluation, ground truth next to prediction, into one file.

    Samples are drawn immediately, because keeping the logits of a dozen ADE20K samples would take gigabytes.

    Args:
        out_file: the image file, overwritten by each evaluation.
        count: number of images.
    """

    priority = 'LOW'

    def __init__(self, out_file: str | Path, count: int = 12) -> None:
        self.out_file = Path(out_file)
        self.count = count
        self._cells: list[Image] = []

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draw the first samples of a validation."""
        self.draw(runner, runner.val_dataloader, outputs)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draw the first samples of a test."""
        self.draw(runner, runner.test_dataloader, outputs)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the file after a validation."""
        self.write()

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the file after a test."""
        self.write()

    def draw(self, runner: Runner, loader: Any, outputs: Sequence[Any] | None) -> None:
        """Draw samples until there are ``count`` of them, in the first process only."""
        if runner.rank == 0:
            missing = self.count - len(self._cells)
            self._cells += [draw_cell(sample, loader.dataset.metainfo) for sample in (outputs or ())[:missing]]

    def write(self) -> None:
        """Write the drawn samples to the file and clear them."""
        cells, self._cells = self._cells, []
        if cells:
            write_sheet(cells, self.out_file)


class WholeModelHook(Hook):
    """Raises an error for a checkpoint of a different model, where mmengine would only warn.

    Args:
        heads: whether the heads must match too; False to start training from a model with different heads.
    """

    def __init__(self, heads: bool = True) -> None:
        self.heads = heads

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint. With ``heads``, it is also loaded here, and the Runner loads it again.

        Raises:
            InputError: if it does not match the model, or if a run is resumed from a checkpoint without its state.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        source = str(runner._load_from or find_latest_checkpoint(runner.work_dir))
        (load_whole if self.heads else check_backbones)(model, source, checkpoint)
        if runner._resume:
            check_state(checkpoint, source)


class PendingEvaluationHook(Hook):
    """Repeats the evaluation that was due when a resumed run was interrupted."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Run the pending evaluation, after everything is loaded and all other hooks are ready."""
        loop = runner.train_loop
        loop._decide_current_val_interval()
        if not runner._resume or runner.val_loop is None or not is_evaluation_due(loop):
            return
        if runner.message_hub.runtime_info.get(EVALUATED) != loop.iter:
            runner.logger.info(f'The evaluation after iteration {loop.iter} was not finished and is repeated.')
            runner.val_loop.run()


def is_evaluation_due(loop: Any) -> bool:
    """Return whether a training loop evaluates after its current iteration."""
    position, end = loop.iter, loop.max_iters
    if isinstance(loop, EpochBasedTrainLoop):
        if loop.iter != loop.epoch * len(loop.dataloader):
            return False
        position, end = loop.epoch, loop.max_epochs
    return position > 0 and position >= loop.val_begin and (position % loop.val_interval == 0 or position == end)
