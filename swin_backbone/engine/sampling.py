"""Data loading that can start at any position of a run, with random numbers seeded per sample."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import BatchSampler, Sampler

from swin_backbone.engine.random_numbers import seed_sample


class SampleIndex(int):
    """The index of a sample together with its epoch, which is passed to worker processes.

    Attributes:
        epoch: counted from 0.
    """

    epoch: int

    def __new__(cls, index: int, epoch: int = 0) -> 'SampleIndex':
        """Create an index. Pickle calls this without the epoch and sets it afterwards."""
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self


def has_end(sampler: Any) -> bool:
    """Return whether a sampler ends after an epoch; only such samplers have an ``epoch``."""
    return hasattr(sampler, 'epoch')


class EpochSampler(Sampler[Any]):
    """Wraps a sampler to yield :class:`SampleIndex`.

    Args:
        sampler: a finite or infinite sampler of mmengine or a toolkit.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.dataset = Sizes(sampler.dataset)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        rank, processes = get_dist_info()
        known = self.sampler.epoch if has_end(self.sampler) else None
        for count, index in enumerate(self.sampler):
            if isinstance(index, int):
                epoch = (count * processes + rank) // len(self.sampler) if known is None else known
                yield SampleIndex(index, epoch)
            else:  # frames of videos are pairs
                yield index


class Sizes:
    """Cache of the image sizes of a data set.

    Samplers that group images by aspect ratio need the size at every draw. Reading it from the annotations each time
    takes minutes when a long run is resumed.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.known: dict[int, dict[str, Any]] = {}

    def get_data_info(self, index: int) -> Any:
        """Return width and height of an image, or the complete info of other samples, such as videos."""
        found = self.known.get(index)
        if found is None:
            found = self.dataset.get_data_info(int(index))
            if 'width' in found and 'height' in found:
                found = self.known[int(index)] = dict(width=found['width'], height=found['height'])
        return found


class PlacedBatches(BatchSampler):
    """Batch sampler that can start at any position; skipped batches are drawn, but not loaded.

    Args:
        sampler: the sampler of indices.
        batch_size: images per batch.
        batches: config of the underlying batch sampler.

    Attributes:
        skip: number of batches to skip when iteration starts next; None to yield no batches.
    """

    skip: int | None = 0

    def __init__(self, sampler: Any, batch_size: int, batches: Mapping[str, Any]) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        self.batches = DATA_SAMPLERS.build(
            dict(batches), default_args=dict(sampler=EpochSampler(sampler), batch_size=batch_size)
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        if self.skip is not None:
            skip, self.skip = self.skip, 0
            yield from islice(self.batches, skip, None)


class SeededDataset:
    """Wraps a data set so that the random numbers of a sample depend only on the seed, its epoch and its index.

    All other attributes are those of the wrapped data set, so that hooks and samplers work unchanged.

    Args:
        dataset: the data set or its config.
        seed: the seed of the run.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        own = dict(dataset=DATASETS.build(dataset) if isinstance(dataset, dict) else dataset, seed=seed)
        self.__dict__['_own'] = own

    def __len__(self) -> int:
        return len(self._own['dataset'])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, SampleIndex):
            seed_sample(self._own['seed'], index.epoch, int(index))
            index = int(index)
        return self._own['dataset'][index]

    def __getattr__(self, name: str) -> Any:
        if name == '_own' or (
            name.startswith('__') and name.endswith('__')
        ):  # pickle looks these up before _own exists
            raise AttributeError(name)
        return getattr(self._own['dataset'], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._own['dataset'], name, value)


def placed(loader: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return the config of a data loader with :class:`PlacedBatches` and a :class:`SeededDataset`."""
    options = dict(loader)
    # DataLoader does not accept drop_last together with a batch sampler.
    plain = dict(type=BatchSampler, drop_last=options.pop('drop_last', False))
    options['batch_sampler'] = dict(type=PlacedBatches, batches=options.get('batch_sampler') or plain)
    options['dataset'] = dict(type=SeededDataset, dataset=options['dataset'], seed=seed)
    return options
