"""Hooks that the command lines add to a run."""

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
    """Draws the first images of each evaluation, ground truth beside prediction, into one file.

    Each sample is drawn at once: kept until the end, the logits of a dozen samples of ADE20K would take gigabytes.

    Args:
        out_file: overwritten by each evaluation.
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
        """Draw samples of the data set of a loader until there are enough, on the first process only."""
        if runner.rank == 0:
            missing = self.count - len(self._cells)
            self._cells += [draw_cell(sample, loader.dataset.metainfo) for sample in (outputs or ())[:missing]]

    def write(self) -> None:
        """Write what was drawn, and begin anew."""
        cells, self._cells = self._cells, []
        if cells:
            write_sheet(cells, self.out_file)


class WholeModelHook(Hook):
    """Refuses a checkpoint of another model, of which mmengine would only warn.

    Args:
        heads: whether the heads must be covered too; False to train on from a model that may have other ones.
    """

    def __init__(self, heads: bool = True) -> None:
        self.heads = heads

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint, and load it where every parameter must be covered; the Runner loads the same again.

        Raises:
            InputError: it does not cover the model, or is to be resumed and holds no state of a run.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        source = str(runner._load_from or find_latest_checkpoint(runner.work_dir))
        (load_whole if self.heads else check_backbones)(model, source, checkpoint)
        if runner._resume:
            check_state(checkpoint, source)


class PendingEvaluationHook(Hook):
    """Evaluates first where a run is resumed that had trained up to an evaluation and not finished it."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Called by the Runner once everything is loaded and all other hooks are ready."""
        loop = runner.train_loop
        loop._decide_current_val_interval()
        if not runner._resume or runner.val_loop is None or not is_evaluation_due(loop):
            return
        if runner.message_hub.runtime_info.get(EVALUATED) != loop.iter:
            runner.logger.info(f'The evaluation after iteration {loop.iter} was not finished: it is repeated.')
            runner.val_loop.run()


def is_evaluation_due(loop: Any) -> bool:
    """Whether a training loop is at an iteration where it evaluates."""
    position, end = loop.iter, loop.max_iters
    if isinstance(loop, EpochBasedTrainLoop):
        if loop.iter != loop.epoch * len(loop.dataloader):
            return False
        position, end = loop.epoch, loop.max_epochs
    return position > 0 and position >= loop.val_begin and (position % loop.val_interval == 0 or position == end)
