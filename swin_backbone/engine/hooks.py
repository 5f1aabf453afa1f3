"""Hooks that the command lines add to a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from swin_backbone.errors import InputError
from swin_backbone.evaluation.gallery import draw_sheet


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
