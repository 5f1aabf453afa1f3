"""Ablations of the papers: Tables 4, 6 and 9 of Swin and 1 and 6 of Swin V2 by training, Swin's Table 5 by timing."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swin_backbone.ablations.paper_v1 import TASKS, VARIANTS
from swin_backbone.cli import EXIT_FAILURE, Parser
from swin_backbone.cli._options import LAUNCHERS, add_config_options
from swin_backbone.errors import InputError

TIMED = 'table5'
OWN_RECIPES = ('table9',)
"""Tables with a fixed recipe for each row, without options that select a recipe and without a demo."""

ABOUT = {
    'table4': 'scores with and without shifted windows and for each position encoding',
    'table5': 'speed of each attention method',
    'table6': 'scores of each attention method',
    'table9': 'scores of SGD and AdamW with convolutional backbones',
    'v2-position': "scores of V2's position biases at window sizes other than the trained one",
    'v2-architecture': "scores of V2's normalization and attention changes, added one by one",
}
PAPER_TABLES = ('table4', 'table6')
DENSE = tuple(task for task in TASKS if task != 'classification')
V2_TABLES = {'v2-position': 'Swin V2 paper, Table 1', 'v2-architecture': 'Swin V2 paper, Table 6'}


def build_parser() -> Parser:
    """Build the argument parser."""
    parser = Parser(
        'Run an ablation of the Swin papers and compare its numbers with the published ones. Finished runs are kept:\n'
        'repeat the command to continue after an interruption.',
        'swin-backbone ablate table4 --task segmentation --demo\n'
        '  swin-backbone ablate table4 --task detection --data-root data/coco --weights none --launcher pytorch '
        '--gpus 8\n  swin-backbone ablate table5 --shape 224 224 --batch 64',
    )
    tables = parser.add_subparsers(dest='table', metavar='TABLE', required=True)
    for name, about in ABOUT.items():
        table = tables.add_parser(
            name,
            help=about,
            description=f'{V2_TABLES.get(name, f"Table {name[-1]}")}: {about}.',
            example=f'swin-backbone ablate {name}{"" if name in OWN_RECIPES else " --demo"}',
        )
        if name in OWN_RECIPES:
            table.set_defaults(demo=False, task='detection', config=None)
        else:
            demo = 'time small inputs' if name == TIMED else 'train a small network on generated data'
            table.add_argument('--demo', action='store_true', help=demo)
        table.add_argument('--rows', nargs='+', metavar='NAME', help='rows to run (default: all)')
        table.add_argument(
            '--work-dir', metavar='DIR', help='output folder (default: work_dirs/ablate, or ablate-demo with --demo)'
        )
        if name == TIMED:
            add_timing_options(table)
            continue
        if name not in OWN_RECIPES:
            add_choice_of_recipe(table, list(TASKS) if name in PAPER_TABLES else DENSE)
        add_training_options(table)
    return parser


def add_choice_of_recipe(parser: Parser, tasks: Sequence[str]) -> None:
    """Add the options that select the recipe to train."""
    parser.add_argument('--task', choices=tasks, default='segmentation', help='task to train (default: %(default)s)')
    parser.add_argument('--config', metavar='CONFIG', help="base config of the rows (default: the paper's)")
    if 'classification' in tasks:
        parser.add_argument(
            '--pretrain',
            nargs='?',
            const='',
            metavar='DIR',
            help='pre-train each row as a classifier on ImageNet-1K in DIR, and start from these weights',
        )


def add_training_options(parser: Parser) -> None:
    """Add the options of tables whose rows are trained."""
    parser.add_argument('--data-root', metavar='DIR', help='folder of the data set (default: that of the config)')
    parser.add_argument(
        '--weights', metavar='SOURCE|none', help='weights of the backbone; {row} is replaced by the name of the row'
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=int,
        metavar='N',
        help='seeds for each row; a single N means seeds 0..N-1 (default: 1; 3 with --demo)',
    )
    parser.add_argument('--max-iters', type=int, metavar='N', help='train each run for N iterations')
    add_config_options(parser)
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate linearly with the batch size'
    )
    parser.add_argument('--jobs', type=int, default=1, metavar='N', help='number of concurrent runs (default: 1)')
    parser.add_argument(
        '--launcher', choices=LAUNCHERS, default='none', help='how to start the processes of each run (default: none)'
    )
    parser.add_argument(
        '--gpus', type=int, metavar='N', help='processes of each run, which need a launcher (default: 1)'
    )
    parser.add_argument('--redo', action='store_true', help='delete and repeat runs that had different options')
    elsewhere = parser.add_mutually_exclusive_group()
    elsewhere.add_argument(
        '--print-commands', action='store_true', help='print the command of each run without starting it'
    )
    elsewhere.add_argument('--slurm', action='store_true', help='submit each run to Slurm through submitit')
    parser.add_argument(
        '--slurm-options',
        nargs='+',
        metavar='KEY=VALUE',
        help="parameters of submitit's AutoExecutor, such as timeout_min=600",
    )


def add_timing_options(parser: Parser) -> None:
    """Add the options of Table 5."""
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'), help='image size (default: 224 224)')
    parser.add_argument('--batch', type=int, metavar='N', help='batch size (default: 64; 8 on a CPU, 1 with --demo)')
    parser.add_argument(
        '--variants', nargs='+', choices=VARIANTS, metavar='NAME', help='sizes to time (default: tiny small base)'
    )
    parser.add_argument(
        '--dtype', choices=['float32', 'float16', 'bfloat16'], help='half precision by autocast (default: float32)'
    )
    parser.add_argument(
        '--warm-up', type=int, metavar='N', help='untimed rounds (default: 50; 2 on a CPU, 1 with --demo)'
    )
    parser.add_argument('--rounds', type=int, metavar='N', help='timed rounds (default: 30; 9 on a CPU, 5 with --demo)')


def main(argv: Sequence[str] | None = None) -> None:
    """Run the sweep or the timing of one table."""
    args = parse(argv)
    if args.table == TIMED:
        time_methods(args)
    else:
        train_rows(args)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments and check numbers and combinations of options."""
    args = build_parser().parse_args(argv)
    for name in ('max_iters', 'jobs', 'gpus', 'batch', 'rounds'):
        value = getattr(args, name, None)
        if value is not None and value < 1:
            raise InputError(f'--{name.replace("_", "-")} must be at least 1, got {value}.')
    if getattr(args, 'gpus', None) and args.launcher == 'none':
        raise InputError('--gpus needs a launcher: add --launcher pytorch.')
    if getattr(args, 'slurm_options', None) and not args.slurm:
        raise InputError('--slurm-options needs --slurm: add it.')
    return args


def choose_seeds(numbers: Sequence[int]) -> list[int]:
    """Return the seeds; a single number N means seeds 0 to N-1."""
    seeds = list(range(numbers[0])) if len(numbers) == 1 else list(numbers)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        given = ' '.join(map(str, numbers))
        raise InputError(f'--seeds must be a number of seeds or several different seeds of at least 0, got {given}.')
    return seeds


def train_rows(args: argparse.Namespace) -> None:
    """Train the rows of a table."""
    from swin_backbone.ablations.process_pool import Launch
    from swin_backbone.ablations.runs import make_plan
    from swin_backbone.ablations.sweep import Sweep

    if args.demo and not args.config:
        make_demo_data(args)
    plan = make_plan(
        table=args.table,
        task=args.task,
        config_file=args.config,
        work_dir=args.work_dir,
        seeds=choose_seeds(args.seeds or [3 if args.demo else 1]),
        weights=args.weights,
        data_root=args.data_root,
        max_iters=args.max_iters,
        overrides=args.cfg_options,
        scale_rate=args.auto_scale_lr,
        demo=args.demo,
        check_data=not args.print_commands,
        pretrain=getattr(args, 'pretrain', None),
    )
    launch = Launch(args.launcher, args.gpus or 1, args.jobs)
    sweep = Sweep(plan, args.rows, print_line)
    sweep.clear(args.redo)
    if args.print_commands:
        for line in sweep.commands(launch):
            print(line)
        return
    sweep.check()
    if args.slurm:
        submit_rows(sweep, launch, args.slurm_options)
        return
    failures = sweep.start(launch)
    print((plan.report_dir / 'table.md').read_text())
    print(f'table.csv, table.md, index.html and plot.png are in {plan.report_dir}')
    if failures:
        print('\n'.join(failures), file=sys.stderr)
        raise SystemExit(EXIT_FAILURE)


def submit_rows(sweep: Any, launch: Any, options: Sequence[str] | None) -> None:
    """Submit the runs to Slurm."""
    from swin_backbone.ablations.slurm import make_executor, submit
    from swin_backbone.engine.config import parse_overrides

    parameters = parse_overrides(options or (), '--slurm-options', 'timeout_min=600')
    executor = make_executor(sweep.plan.report_dir / 'slurm', parameters)
    jobs = submit(sweep, executor, launch)
    print(f'{len(jobs)} jobs submitted; when they have finished, run the same command without --slurm for the table')


def make_demo_data(args: argparse.Namespace) -> None:
    """Generate the demo data if they do not exist."""
    from swin_backbone.ablations.demo_data import make_classes, make_data

    if args.task == 'classification':
        args.data_root = str(make_classes(args.data_root))
        return
    args.data_root = str(make_data(args.data_root))
    if getattr(args, 'pretrain', None) is not None:
        args.pretrain = str(make_classes(args.pretrain))


def print_line(line: str) -> None:
    """Print a progress line without buffering."""
    print(line, flush=True)


def time_methods(args: argparse.Namespace) -> None:
    """Time the attention methods of Table 5."""
    from swin_backbone.ablations.pages import write_speed
    from swin_backbone.ablations.speed import make_protocol, measure

    protocol = make_protocol(
        args.rows, args.variants, args.shape, args.batch, args.dtype, args.warm_up, args.rounds, args.demo
    )
    speeds = measure(protocol, print_line)
    folder = Path(args.work_dir or ('work_dirs/ablate-demo' if args.demo else 'work_dirs/ablate')) / TIMED
    print(write_speed(folder, speeds))
    print(f'table.csv, table.md, table.json, index.html and plot.png are in {folder}')
