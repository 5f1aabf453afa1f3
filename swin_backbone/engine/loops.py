"""mmengine's training loops that resume at any iteration without loading the data before it."""

from typing import Any

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from swin_backbone.engine.sampling import has_end


class EpochLoop(EpochBasedTrainLoop):
    """Epoch-based training that can resume within an epoch."""

    done = 0
    """Number of batches of the current epoch that were trained on before resuming."""

    def run_epoch(self) -> None:
        """Train on the remaining batches of an epoch."""
        self.done = self._iter - self._epoch * len(self.dataloader)
        if not 0 <= self.done <= len(self.dataloader):
            self.runner.logger.warning(
                f'The checkpoint was saved after {self._iter} iterations and {self._epoch} epochs, which does not '
                f'match epochs of {len(self.dataloader)} iterations: the data, batch size or number of processes '
                f'changed. Epoch {self._epoch + 1} starts from its beginning.'
            )
            self.done = 0
        self.dataloader.batch_sampler.skip = self.done
        super().run_epoch()

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Train on a batch; ``idx`` is shifted to its position in the epoch."""
        super().run_iter(idx + self.done, data_batch)


class IterationLoop(IterBasedTrainLoop):
    """Iteration-based training that starts loading data at the iteration where it resumes.

    Args:
        runner: the runner of the loop.
        dataloader: a loader with :class:`~swin_backbone.engine.sampling.PlacedBatches`.
        options: options of mmengine's loop.
    """

    def __init__(self, runner: Runner, dataloader: Any, **options: Any) -> None:
        # mmengine creates the iterator here, before the iteration of the checkpoint is known.
        dataloader.batch_sampler.skip = None
        super().__init__(runner, dataloader, **options)
        dataloader.batch_sampler.skip = 0

    def run(self) -> Any:
        """Train."""
        self.dataloader_iterator = LateBatches(self.dataloader, self._iter)
        self.fast_forward_on_resume = False  # with this option of onedl-mmengine, the loop would not skip any batches
        return super().run()


class LateBatches:
    """Iterator over the batches from a position on.

    The loops skip the earlier batches themselves: mmengine takes them one by one and gets None, its fork
    onedl-mmengine calls :meth:`skip_iter`.
    """

    def __init__(self, loader: DataLoader[Any], position: int) -> None:
        self.loader, self.position, self.dropped = loader, position, 0
        self.batches: Any = None

    def __next__(self) -> Any:
        if self.dropped < self.position:
            self.dropped += 1
            return None
        if self.batches is None:
            self.batches = batches_from(self.loader, self.position)
        return next(self.batches)

    def skip_iter(self, count: int) -> None:
        """Skip the first ``count`` batches."""
        self.dropped = count


def batches_from(loader: DataLoader[Any], position: int) -> Any:
    """Return an endless iterator over the batches of a loader with :class:`PlacedBatches`, from a position on."""
    batches: Any = loader.batch_sampler
    epoch, batches.skip = 0, position
    if has_end(batches.sampler):
        epoch, batches.skip = divmod(position, len(loader))
        batches.sampler.set_epoch(epoch)
    endless = _InfiniteDataloaderIterator(loader)
    endless._epoch = epoch
    return endless
