"""What the toolkits say about themselves stays off the screen, so that a run's own words are seen."""

import logging
import warnings

from mmengine.logging import MMLogger

FOR_THE_FILE = (
    '\n' + '-' * 60 + '\nSystem environment',
    'Config:\n',
    'Hooks will be executed in the following order',
    'Distributed training is not used, all SyncBatchNorm',
    'paramwise_options --',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'The prefix is not set in metric class',
    'Exp name: ',
)
"""How messages begin that only the log file gets: several hundred lines a run, most of them the config."""

ABOUT_THE_TOOLKITS = (
    '``build_loss`` would be deprecated',
    'Default ``avg_non_ignore`` is False',
    'The draw is False',
    '`reduce_zero_label` will be deprecated',
    'To copy construct from a tensor',
)
"""How warnings begin that the toolkits' own code causes, whatever the config says."""


def quiet_console(logger: MMLogger) -> None:
    """Keep :data:`FOR_THE_FILE` off the screen; the log file still gets it."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(lambda record: not record.getMessage().startswith(FOR_THE_FILE))


def ignore_warnings() -> None:
    """Do not show :data:`ABOUT_THE_TOOLKITS`."""
    for beginning in ABOUT_THE_TOOLKITS:
        warnings.filterwarnings('ignore', message=beginning, category=UserWarning)
