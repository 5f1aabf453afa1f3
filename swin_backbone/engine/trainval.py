"""Training on training and validation data, as for submissions to test servers (``--trainval``)."""

import copy
import logging
from typing import Any

from mmengine.config import Config

from swin_backbone.engine.class_check import find_data_sets
from swin_backbone.engine.config import is_read
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
PLACE = ('data_root', 'ann_file', 'data_prefix', 'indices')
"""Data set options that determine its images."""


def use_trainval(config: Config) -> None:
    """Add the validation images to the training data and disable evaluation, which would use training data.

    Raises:
        InputError: if the config has no validation data, or they cannot be added to its training data.
    """
    extra = validation_part(config)
    training = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[training, extra])
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    checkpoint = config.default_hooks.checkpoint or {}
    if checkpoint.pop('save_best', None):
        LOGGER.warning('--trainval disables evaluation, so no best checkpoint is saved (save_best)')
    LOGGER.warning(
        '--trainval also trains on the validation data: evaluation is disabled, and later scores on these data are '
        'scores on training data. Write files for a test server with `swin-backbone test --format-only`.'
    )


def validation_part(config: Config) -> Any:
    """Return the validation images as a data set with the pipeline and wrappers of the training data.

    Raises:
        InputError: if there are none, or their data set has a different type.
    """
    training, validation = (list(find_data_sets(config, (name,))) for name in ('train_dataloader', 'val_dataloader'))
    if len(training) != 1 or len(validation) != 1:
        raise InputError(
            f'--trainval needs one training and one validation set, but {config.filename} has {len(training)} and '
            f'{len(validation)}: join them with ConcatDataset in the config.'
        )
    (train,), (val,) = training, validation
    if train.get('type') != val.get('type'):
        raise InputError(
            f'--trainval cannot add validation data of type {val.get("type")} to training data of type '
            f'{train.get("type")}: join them with ConcatDataset in the config.'
        )
    if all(train.get(key) == val.get(key) for key in PLACE):
        raise InputError(f'--trainval: {config.filename} already trains on its validation data: leave it out.')
    absent = [key for key in train.get('data_prefix') or {} if key not in (val.get('data_prefix') or {})]
    for key in absent:
        if is_read(train, key):
            raise InputError(
                f'--trainval needs data_prefix.{key} of the validation data: add it with --cfg-options '
                f'val_dataloader.dataset.data_prefix.{key}=FOLDER.'
            )
    joined = Config(dict(train_dataloader=copy.deepcopy(config.train_dataloader)))
    (part,) = find_data_sets(joined, ('train_dataloader',))
    for key in PLACE:
        part.pop(key, None)
    part.update({key: copy.deepcopy(val[key]) for key in PLACE if key in val})
    return joined.train_dataloader.dataset
