"""Hooks that the command lines add to a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from swin_backbone.reports.sheet import draw_sheet


class PredictionSheetHook(Hook):
    """Draws the first pictures of each evaluation, truth beside prediction, into one file.

    Args:
        out_file: the picture; overwritten by each evaluation.
        count: how many pictures.
    """

    priority = 'LOW'

    def __init__(self, out_file: str | Path, count: int = 12) -> None:
        self.out_file = Path(out_file)
        self.count = count
        self._samples: list[Any] = []

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Keep the outputs of the first iterations."""
        if len(self._samples) < self.count:
            self._samples += [sample.cpu() for sample in outputs or ()][: self.count - len(self._samples)]

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """The same while testing."""
        self.after_val_iter(runner, batch_idx, data_batch, outputs)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw what was kept, on the first process only."""
        self.draw(runner, runner.val_dataloader)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """The same after testing."""
        self.draw(runner, runner.test_dataloader)

    def draw(self, runner: Runner, loader: Any) -> None:
        """Draw what was kept of the data set of a loader, and begin anew."""
        samples, self._samples = self._samples, []
        if runner.rank == 0 and samples:
            draw_sheet(samples, loader.dataset.metainfo, self.out_file)
