"""Batches whose place in a run is known: they can start anywhere, and each sample has random numbers of its own."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import BatchSampler, Sampler

from swin_backbone.engine.random_numbers import seed_sample


class SampleIndex(int):
    """The index of a sample that carries the epoch in which it is drawn, also into worker processes.

    Attributes:
        epoch: counted from 0.
    """

    epoch: int

    def __new__(cls, index: int, epoch: int = 0) -> 'SampleIndex':
        """Make an index; pickle calls this with the index alone and sets the epoch afterwards."""
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self


def has_end(sampler: Any) -> bool:
    """Whether a sampler ends after an epoch; those that do, know which epoch it is."""
    return hasattr(sampler, 'epoch')


class EpochSampler(Sampler[Any]):
    """Draws what another sampler draws, as :class:`SampleIndex`.

    Args:
        sampler: of mmengine or a toolkit; with or without an end.
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
    """Remembers the sizes of a data set's images.

    Batches of one orientation ask for the size at every draw, which takes minutes for the draws of a long run when each
    answer is read from the annotations.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.known: dict[int, dict[str, Any]] = {}

    def get_data_info(self, index: int) -> Any:
        """Width and height of an image; everything that is known of other samples, such as videos."""
        found = self.known.get(index)
        if found is None:
            found = self.dataset.get_data_info(int(index))
            if 'width' in found and 'height' in found:
                found = self.known[int(index)] = dict(width=found['width'], height=found['height'])
        return found


class PlacedBatches(BatchSampler):
    """Batches of another batch sampler from a position on.

    Skipping draws indices and loads nothing.

    Args:
        sampler: draws the indices.
        batch_size: images of a batch.
        batches: the config of the batch sampler.

    Attributes:
        skip: number of batches to leave out when iteration starts next; None for no batches at all.
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
    """A data set whose samples have random numbers that depend on the seed, their epoch and their index alone.

    Everything else is the data set's own, so that hooks and samplers find what they look for.

    Args:
        dataset: the config of the data set, or the data set.
        seed: of the run.
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
        if name == '_own' or (name.startswith('__') and name.endswith('__')):  # what pickle asks for before it exists
            raise AttributeError(name)
        return getattr(self._own['dataset'], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._own['dataset'], name, value)


def placed(loader: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The config of a data loader with :class:`PlacedBatches` and a :class:`SeededDataset`."""
    options = dict(loader)
    # The loader itself would take no drop_last beside a batch sampler.
    plain = dict(type=BatchSampler, drop_last=options.pop('drop_last', False))
    options['batch_sampler'] = dict(type=PlacedBatches, batches=options.get('batch_sampler') or plain)
    options['dataset'] = dict(type=SeededDataset, dataset=options['dataset'], seed=seed)
    return options
