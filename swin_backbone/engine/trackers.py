"""Where a run's curves go beside its own log: TensorBoard, Weights & Biases."""

import importlib.util
import logging

from mmengine.config import Config
from mmengine.logging import print_log

from swin_backbone.errors import InputError


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def set_trackers(config: Config, wandb_project: str | None) -> None:
    """Send curves to TensorBoard where it is installed, and to a project of Weights & Biases if one is named.

    Args:
        config: changed in place; what it sends already stays.
        wandb_project: name of the project, or None.

    Raises:
        InputError: Weights & Biases is asked for and not installed.
    """
    backends = list(config.visualizer.get('vis_backends') or [dict(type='LocalVisBackend')])
    present = {backend['type'] for backend in backends}
    if is_installed('tensorboard'):
        if 'TensorboardVisBackend' not in present:
            backends.append(dict(type='TensorboardVisBackend'))
    else:
        print_log('No curves for TensorBoard: pip install tensorboard.', 'current', logging.INFO)
    if wandb_project is not None:
        if not is_installed('wandb'):
            raise InputError('--wandb needs the package wandb, which is not installed: run pip install wandb.')
        backends.append(dict(type='WandbVisBackend', init_kwargs=dict(project=wandb_project)))
    config.visualizer.vis_backends = backends
