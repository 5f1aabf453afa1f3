"""Train a detector or segmenter from a config."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from swin_backbone.cli import Parser
from swin_backbone.cli._options import (
    CONFIG,
    add_machine_options,
    add_run_options,
    export_local_rank,
    use_machine,
    wait_for_processes,
)
from swin_backbone.errors import InputError

LOADERS = ('train_dataloader', 'val_dataloader')
LEAST = dict(
    max_iters=1, checkpoint_interval=1, nonfinite_patience=0, epochs=1, batch_size=1, workers=0, threads=1, gpus=1
)
"""Minimum values of options."""


def build_parser() -> Parser:
    """Build the argument parser."""
    parser = Parser(
        'Train a detector, segmenter or classifier from a config.',
        'swin-backbone train cascade_swin_t_3x --data-root data/coco',
    )
    parser.add_argument('config', metavar='CONFIG', help=CONFIG)
    add_run_options(parser)
    parser.add_argument(
        '--train-ann',
        metavar='FILE|DIR',
        help='your own training annotations: a COCO file or a folder of label maps',
    )
    parser.add_argument(
        '--load-from',
        metavar='CHECKPOINT',
        help="whole model to fine-tune: a path, a URL, or released for the authors' checkpoint of the config",
    )
    parser.add_argument(
        '--epochs', type=int, metavar='N', help="train for N epochs and scale the recipe's learning rate schedule"
    )
    parser.add_argument(
        '--batch-size', type=int, metavar='N', help="images per iteration on each GPU (default: the recipe's)"
    )
    parser.add_argument('--lr', type=float, metavar='RATE', help="learning rate (default: the recipe's)")
    parser.add_argument('--no-val', action='store_true', help='skip evaluation')
    add_machine_options(parser)
    parser.add_argument('--gpus', type=int, metavar='N', help='start N processes with torchrun, one per GPU')
    parser.add_argument(
        '--strategy',
        choices=('ddp', 'zero', 'fsdp'),
        help='distributed strategy: nothing sharded (ddp), optimizer state sharded (zero), or weights, gradients and '
        'optimizer state sharded (fsdp)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from this checkpoint or, without a value, from the newest one in the work dir',
    )
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument('--amp', action='store_true', help='mixed precision with float16')
    precision.add_argument('--bf16', action='store_true', help='mixed precision with bfloat16, without loss scaling')
    parser.add_argument(
        '--one-gpu',
        action='store_true',
        help="keep the recipe's batch size and schedule on one GPU by accumulating gradients",
    )
    parser.add_argument(
        '--trainval',
        action='store_true',
        help='also train on the validation data, without evaluation, for submissions to test servers',
    )
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help="scale the recipe's learning rate linearly with the batch size"
    )
    parser.add_argument(
        '--weights', metavar='NAME|PATH|URL|none', help='weights of the backbone; none trains from scratch'
    )
    parser.add_argument('--seed', type=int, metavar='N', help='random seed')
    parser.add_argument(
        '--deterministic', action='store_true', help='use deterministic algorithms, for repeatable runs'
    )
    parser.add_argument(
        '--max-iters', type=int, metavar='N', help='train for N iterations; the schedule is not shortened'
    )
    parser.add_argument(
        '--checkpoint-interval', type=int, metavar='N', help='save a checkpoint every N epochs or iterations'
    )
    parser.add_argument(
        '--nonfinite-patience',
        type=int,
        metavar='N',
        help='stop after N consecutive iterations with a NaN or infinite loss; 0 never stops (default: 1)',
    )
    parser.add_argument('--wandb', metavar='PROJECT', help='also log to this Weights & Biases project')
    parser.add_argument(
        '--dry-run', action='store_true', help='build everything, compute the loss of one batch, and stop'
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Train, then evaluate."""
    args = parse(argv)
    if args.gpus is not None and args.gpus > 1 and args.launcher == 'none':
        start_processes(args.gpus, sys.argv[1:] if argv is None else argv, args.threads)
        return
    use_machine(args.device, args.threads)
    from swin_backbone.engine import config as change
    from swin_backbone.engine.error_explanations import explained
    from swin_backbone.engine.hardware_presets import use_bfloat16
    from swin_backbone.engine.model_check import check_model, dry_run
    from swin_backbone.engine.option_check import require_training
    from swin_backbone.engine.train import precision_of, set_trackers, train

    export_local_rank(args)
    config = change.load_config(args.config, args.cfg_options)
    with explained(config):
        require_training(config)
        set_options(config, args)
        change.use_own_types(config)
        recipe_precision = precision_of(config.optim_wrapper.type, config.optim_wrapper.get('dtype'))
        if args.bf16:
            use_bfloat16(config)
        change.set_precision(config, args.amp)
        check_model(config, LOADERS)
        set_trackers(config, args.wandb)
        if args.dry_run:
            dry_run(config, recipe_precision)
        else:
            train(config, recipe_precision)
    wait_for_processes()


def start_processes(count: int, argv: Sequence[str], threads: int | None) -> None:
    """Replace this process by torchrun with ``count`` processes of the same command.

    Raises:
        InputError: if there are fewer GPUs.
    """
    import torch

    visible = torch.cuda.device_count()
    if visible < count and '--device' not in argv:
        raise InputError(
            f'--gpus {count} exceeds the number of visible GPUs ({visible}): use a smaller number, or --device cpu for '
            'processes without GPUs.'
        )
    os.environ.setdefault('OMP_NUM_THREADS', str(threads or 1))
    torchrun = ['-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={count}']
    rest = ['-m', 'swin_backbone.cli', 'train', *argv, '--launcher', 'pytorch']
    os.execv(sys.executable, [sys.executable, *torchrun, *rest])


def set_options(config: Any, args: argparse.Namespace) -> None:
    """Apply the options to a config, and check config and data.

    Raises:
        InputError: if an option, the config or the data are invalid.
    """
    from swin_backbone.engine import config as change
    from swin_backbone.engine.class_check import check_classes, check_ground_truth
    from swin_backbone.engine.data_check import check_files
    from swin_backbone.engine.hardware_presets import use_one_gpu
    from swin_backbone.engine.option_check import check_ranges
    from swin_backbone.engine.own_data import choose_data, own_data
    from swin_backbone.engine.path_check import check_local
    from swin_backbone.engine.resume import set_resume
    from swin_backbone.engine.run_options import skip_validation
    from swin_backbone.engine.strategies import set_strategy
    from swin_backbone.engine.trainval import use_trainval
    from swin_backbone.engine.type_check import check_types

    set_numbers(config, args)
    if args.seed is not None or args.deterministic:
        config.randomness = dict(seed=args.seed, deterministic=args.deterministic)
    if args.deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # must be set before cuBLAS is initialised
    check_ranges(config)
    check_types(config)
    change.set_work_dir(config, args.work_dir, args.config)
    splits = ('train',) if args.no_val else ('train', 'val')
    own = own_data(args.dataset, args.train_ann, args.val_ann, args.data_root)
    choose_data(config, own, splits, args.data_root, args.classes, args.no_masks)
    if args.no_val:
        skip_validation(config)
    change.check_data(config, LOADERS)
    check_files(config, LOADERS, args.data_check)
    check_classes(config, LOADERS)
    check_ground_truth(config, *LOADERS[1:], 'val_evaluator')
    change.set_launcher(config, args.launcher)
    set_strategy(config, args.strategy)
    if args.weights not in (None, 'none'):
        check_local(args.weights, '--weights')
    change.set_weights(config, args.weights)
    set_resume(config, args.resume)
    if args.one_gpu:
        use_one_gpu(config)
    if args.auto_scale_lr:
        change.set_learning_rate_scaling(config)
    if args.max_iters is not None:
        change.limit_iterations(config, args.max_iters)
    if args.checkpoint_interval is not None:
        change.set_checkpoint_interval(config, args.checkpoint_interval)
    if args.nonfinite_patience is not None:
        config.nonfinite_patience = args.nonfinite_patience
    if args.trainval:
        use_trainval(config)


def set_numbers(config: Any, args: argparse.Namespace) -> None:
    """Apply ``--epochs``, ``--batch-size``, ``--lr``, ``--workers`` and ``--load-from``.

    Raises:
        InputError: if one cannot be applied.
    """
    from swin_backbone.engine.checkpoints import choose_source
    from swin_backbone.engine.run_options import set_epochs, set_workers

    if args.epochs is not None:
        set_epochs(config, args.epochs)
    if args.batch_size is not None:
        config.train_dataloader.batch_size = args.batch_size
    if args.lr is not None:
        config.optim_wrapper.optimizer.lr = args.lr
    if args.workers is not None:
        set_workers(config, args.workers)
    if args.load_from is not None:
        config.load_from = choose_source(args.load_from, args.config)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments and check numbers and combinations of options."""
    args = build_parser().parse_args(argv)
    for name, least in LEAST.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise InputError(f'--{name.replace("_", "-")} must be at least {least}, got {value}.')
    if args.epochs is not None and args.max_iters is not None:
        raise InputError('--epochs and --max-iters cannot be combined: leave one of them out.')
    return args
