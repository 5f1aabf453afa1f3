"""Options that several commands share."""

import argparse
import os

from swin_backbone.cli import Parser
from swin_backbone.errors import InputError

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
CONFIG = 'a config: a path, or the name of an installed one'


def add_run_options(parser: Parser) -> None:
    """Add the options that ``train`` and ``test`` share: work dir, data, config overrides and launcher."""
    parser.add_argument('--work-dir', metavar='DIR', help='output folder (default: work_dirs/<config name>)')
    parser.add_argument('--data-root', metavar='DIR', help='folder of the data set (default: that of the config)')
    parser.add_argument(
        '--classes', metavar='A,B,C|FILE', help='names of your classes, or a file with one name per line'
    )
    parser.add_argument('--dataset', metavar='TOML', help='your own data, described in a dataset.toml')
    parser.add_argument(
        '--val-ann', metavar='FILE|DIR', help='your own validation annotations: a COCO file or a folder of label maps'
    )
    parser.add_argument('--no-masks', action='store_true', help='remove the masks of the model, for data without masks')
    parser.add_argument(
        '--data-check',
        choices=('sample', 'full', 'none'),
        default='sample',
        help='check of the data before the run: sample reads the annotations and some images and label maps, full '
        'reads all files, none skips the check (default: %(default)s)',
    )
    add_config_options(parser)
    parser.add_argument(
        '--launcher', choices=LAUNCHERS, default='none', help='program that started the processes of this run'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``; :func:`swin_backbone.engine.config.load_config` reads the values."""
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='change values of the config')


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, ``--threads`` and ``--workers`` to a parser."""
    parser.add_argument('--device', metavar='NAME', help='cpu, cuda or cuda:N (default: a GPU if there is one)')
    parser.add_argument('--threads', type=int, metavar='N', help='CPU threads of PyTorch')
    parser.add_argument('--workers', type=int, metavar='N', help='data loading processes; 0 loads in the main process')


def use_machine(device: str | None, threads: int | None) -> None:
    """Apply ``--device`` and ``--threads`` before CUDA is initialised.

    Raises:
        InputError: if the device does not exist.
    """
    if threads is not None:
        os.environ['OMP_NUM_THREADS'] = str(threads)
    if device is not None:
        kind, _, number = device.partition(':')
        if kind not in ('cpu', 'cuda') or (number and not number.isdigit()) or (kind == 'cpu' and number):
            raise InputError(f'--device {device} is unknown: use cpu, cuda or cuda:N.')
        visible = os.environ.get('CUDA_VISIBLE_DEVICES')
        if kind == 'cpu':
            os.environ['CUDA_VISIBLE_DEVICES'] = ''
        elif number:
            names = visible.split(',') if visible else []
            os.environ['CUDA_VISIBLE_DEVICES'] = names[int(number)] if int(number) < len(names) else number
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if device is not None and device != 'cpu' and not torch.cuda.is_available():
        raise InputError(f'--device {device}: no such GPU is visible: use cpu, or check nvidia-smi.')


def export_local_rank(args: argparse.Namespace) -> None:
    """Set LOCAL_RANK from the option with which launchers of old PyTorch versions pass the local rank."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))


def wait_for_processes() -> None:
    """Wait for all gloo processes before exiting, because an early exit of one aborts the others."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == 'gloo':
        distributed.barrier()
        distributed.destroy_process_group()
