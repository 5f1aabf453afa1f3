"""Hooks that the command lines add to a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from swin_backbone.errors import InputError
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
    """Refuses a checkpoint of another model, of which mmengine would only warn and test random weights."""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Load it with every parameter accounted for; the Runner's own loading changes nothing any more."""
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        require_whole(model, checkpoint.get('state_dict', checkpoint), runner.cfg.load_from)


def require_whole(model: nn.Module, state: dict[str, Any], source: str) -> None:
    """Load a state that has a weight for every parameter of a model, and perhaps more.

    Raises:
        InputError: it lacks some, or they have other shapes.
    """
    advice = 'give the config of its training.'
    try:
        found = model.load_state_dict({name.removeprefix('module.'): state[name] for name in state}, strict=False)
    except RuntimeError as error:
        told = next((line.strip() for line in str(error).splitlines() if 'mismatch' in line), str(error))
        raise InputError(f'{source} is no checkpoint of the model in this config ({told[:200]}): {advice}') from error
    names = [name for name, _ in model.named_parameters()]
    lacking = sorted(set(names) & set(found.missing_keys))
    if lacking:
        raise InputError(
            f'{source} is no checkpoint of the model in this config: it has no weights for {len(lacking)} of its '
            f'{len(names)} parameters, the first is {lacking[0]}; {advice}'
        )
