"""mmengine's training loops, started at any iteration without loading the data before it."""

from typing import Any

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from swin_backbone.engine.sampling import has_end


class EpochLoop(EpochBasedTrainLoop):
    """Training by epochs that can start inside an epoch."""

    done = 0
    """Batches of the present epoch that an earlier process has trained on."""

    def run_epoch(self) -> None:
        """Train on what is left of an epoch."""
        self.done = self._iter - self._epoch * len(self.dataloader)
        if not 0 <= self.done <= len(self.dataloader):
            self.runner.logger.warning(
                f'The checkpoint was written after {self._iter} iterations and {self._epoch} epochs, which does not '
                f'fit epochs of {len(self.dataloader)} iterations: other data, another batch size or number of '
                f'processes. Epoch {self._epoch + 1} is started from its beginning.'
            )
            self.done = 0
        self.dataloader.batch_sampler.skip = self.done
        super().run_epoch()

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Train on a batch, with its number in the epoch."""
        super().run_iter(idx + self.done, data_batch)


class IterationLoop(IterBasedTrainLoop):
    """Training by iterations that starts loading at the iteration where it continues.

    Args:
        runner: owns the loop.
        dataloader: with :class:`~swin_backbone.engine.sampling.PlacedBatches`.
        options: of mmengine's loop.
    """

    def __init__(self, runner: Runner, dataloader: Any, **options: Any) -> None:
        # mmengine starts loading here, before a checkpoint says where to continue.
        dataloader.batch_sampler.skip = None
        super().__init__(runner, dataloader, **options)
        dataloader.batch_sampler.skip = 0

    def run(self) -> Any:
        """Train."""
        self.dataloader_iterator = LateBatches(self.dataloader, self._iter)
        return super().run()


class LateBatches:
    """The batches from a position on; mmengine asks for those before it too, and drops them."""

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


def batches_from(loader: DataLoader[Any], position: int) -> Any:
    """An endless iterator over the batches of a loader of :class:`PlacedBatches`, from a position on."""
    batches: Any = loader.batch_sampler
    epoch, batches.skip = 0, position
    if has_end(batches.sampler):
        epoch, batches.skip = divmod(position, len(loader))
        batches.sampler.set_epoch(epoch)
    endless = _InfiniteDataloaderIterator(loader)
    endless._epoch = epoch
    return endless
