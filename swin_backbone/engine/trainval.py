"""Training on the validation data too, as for entries on test servers: ``--trainval``."""

import copy
import logging
from typing import Any

from mmengine.config import Config

from swin_backbone.engine.class_check import find_data_sets
from swin_backbone.engine.config import is_read
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
PLACE = ('data_root', 'ann_file', 'data_prefix', 'indices')
"""Options of a data set that say which images it has."""


def use_trainval(config: Config) -> None:
    """Train on the images of the validation set too, through the training pipeline; the run evaluates nothing.

    Scores on these images would be scores on training data.

    Raises:
        InputError: the config has no validation data, or they cannot be added to its training data.
    """
    extra = validation_part(config)
    training = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[training, extra])
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    checkpoint = config.default_hooks.checkpoint or {}
    if checkpoint.pop('save_best', None):
        LOGGER.warning('--trainval evaluates nothing, so no best checkpoint is kept (save_best)')
    LOGGER.warning(
        '--trainval trains on the validation data too: this run evaluates nothing, and a later score on that data is '
        'one on training data. Write files for a test server with `swin-backbone test --format-only`.'
    )


def validation_part(config: Config) -> Any:
    """The validation images as a data set of the training's kind, pipeline and wrappers.

    Raises:
        InputError: there are none, or they are of another kind.
    """
    training, validation = (list(find_data_sets(config, (name,))) for name in ('train_dataloader', 'val_dataloader'))
    if len(training) != 1 or len(validation) != 1:
        raise InputError(
            f'--trainval joins one training and one validation set, and {config.filename} has {len(training)} and '
            f'{len(validation)}: join them with ConcatDataset in the config.'
        )
    (ours,), (theirs,) = training, validation
    if ours.get('type') != theirs.get('type'):
        raise InputError(
            f'--trainval cannot add validation data of type {theirs.get("type")} to training data of type '
            f'{ours.get("type")}: join them with ConcatDataset in the config.'
        )
    if all(ours.get(key) == theirs.get(key) for key in PLACE):
        raise InputError(f'--trainval: {config.filename} trains on its validation data already; leave it out.')
    absent = [key for key in ours.get('data_prefix') or {} if key not in (theirs.get('data_prefix') or {})]
    for key in absent:
        if is_read(ours, key):
            raise InputError(
                f"--trainval needs the validation images' folder for {key!r}: add it with --cfg-options "
                f'val_dataloader.dataset.data_prefix.{key}=FOLDER.'
            )
    joined = Config(dict(train_dataloader=copy.deepcopy(config.train_dataloader)))
    (part,) = find_data_sets(joined, ('train_dataloader',))
    for key in PLACE:
        part.pop(key, None)
    part.update({key: copy.deepcopy(theirs[key]) for key in PLACE if key in theirs})
    return joined.train_dataloader.dataset
