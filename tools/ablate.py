"""Run the ablations of the Swin paper: Tables 4 and 6 by training, Table 5 by timing."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from swin_backbone.engine.cli import EXIT_FAILURE, Parser, run
from swin_backbone.errors import InputError

TIMED = 'table5'


def build_parser() -> Parser:
    """The options of the command line."""
    parser = Parser(
        "Run an ablation of the Swin paper and put its figures beside the paper's. What is finished is kept: give the "
        'same command again\nto go on after an interruption.',
        'python tools/ablate.py table4 --task segmentation --demo\n'
        '  python tools/ablate.py table4 --task detection --data-root data/coco --weights none --launcher pytorch '
        '--gpus 8\n  python tools/ablate.py table5 --shape 224 224 --batch 64',
    )
    parser.add_argument(
        'table',
        choices=['table4', 'table5', 'table6'],
        help='shifting and positions; speed of attention methods; their scores',
    )
    parser.add_argument('--demo', action='store_true', help='on the embedded data (table5: on small inputs)')
    parser.add_argument('--rows', nargs='+', metavar='NAME', help='make these rows only (all)')
    parser.add_argument('--work-dir', metavar='DIR', help='runs and tables (work_dirs/ablate; -demo with --demo)')

    add_training_options(parser)
    add_timing_options(parser)
    return parser


def add_training_options(parser: Parser) -> None:
    """The options of Tables 4 and 6."""
    from mmengine.config import DictAction

    from swin_backbone.engine.ablation_runs import LAUNCHERS
    from swin_backbone.reports.ablation_tables import TASKS

    training = parser.add_argument_group('table4 and table6')
    training.add_argument('--task', choices=list(TASKS), help='what to train (segmentation)')
    training.add_argument('--config', metavar='CONFIG', help="the config that the rows change (the paper's)")
    training.add_argument('--data-root', metavar='DIR', help='move every data path of the config to this folder')
    training.add_argument(
        '--weights',
        metavar='SOURCE|none',
        help='backbone weights of every row; {row} in it becomes the name of the row, for pre-trainings of their own',
    )
    training.add_argument(
        '--seeds', nargs='+', type=int, metavar='N', help='train each row with these; one number: so many (1; demo 3)'
    )
    training.add_argument('--max-iters', type=int, metavar='N', help='train each run N iterations, to try a sweep')
    training.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='change the config')
    training.add_argument(
        '--auto-scale-lr', action='store_true', help="scale the learning rate from the recipe's batch"
    )
    training.add_argument('--jobs', type=int, metavar='N', help='runs at a time, each on GPUs or cores of its own (1)')
    training.add_argument('--launcher', choices=LAUNCHERS, help='job launcher of each run (none)')
    training.add_argument('--gpus', type=int, metavar='N', help='processes of each run, with a launcher (1)')
    training.add_argument('--redo', action='store_true', help='delete and repeat runs made with other options')
    training.add_argument('--print-commands', action='store_true', help='print a command for each run, start none')


def add_timing_options(parser: Parser) -> None:
    """The options of Table 5."""
    from swin_backbone.reports.ablation_tables import VARIANTS

    timing = parser.add_argument_group('table5')
    timing.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'), help='of the pictures (224 224)')
    timing.add_argument('--batch', type=int, metavar='N', help='pictures (64; 8 on a CPU, 1 with --demo)')
    timing.add_argument('--variants', nargs='+', choices=VARIANTS, metavar='NAME', help='networks (tiny small base)')
    timing.add_argument('--dtype', choices=['float32', 'float16', 'bfloat16'], help='half by autocast (float32)')
    timing.add_argument('--warm-up', type=int, metavar='N', help='rounds before the timed ones (50; 2 on a CPU)')
    timing.add_argument('--rounds', type=int, metavar='N', help='timed rounds (30; 9 on a CPU, 5 with --demo)')


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    if args.table == TIMED:
        time_methods(args)
    else:
        train_rows(args)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, and refuse what makes no sense."""
    parser = build_parser()
    args = parser.parse_args(argv)
    for group in parser._action_groups:
        if group.title in ('table4 and table6', 'table5') and args.table not in group.title:
            for action in group._group_actions:
                if getattr(args, action.dest) not in (None, False):
                    raise InputError(f'{action.option_strings[0]} is for {group.title} only: leave it out.')
    for name in ('max_iters', 'jobs', 'gpus', 'batch', 'rounds'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f'--{name.replace("_", "-")} must be at least 1, got {value}.')
    if args.gpus and (args.launcher or 'none') == 'none':
        raise InputError('--gpus is for runs of several processes: add --launcher pytorch.')
    return args


def choose_seeds(numbers: Sequence[int]) -> list[int]:
    """The seeds themselves; a single number says how many."""
    seeds = list(range(numbers[0])) if len(numbers) == 1 else list(numbers)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        given = ' '.join(map(str, numbers))
        raise InputError(f'--seeds must be how many, or several different numbers from 0 up, got {given}.')
    return seeds


def train_rows(args: argparse.Namespace) -> None:
    """Tables 4 and 6."""
    from swin_backbone.engine.ablation import Means, Sweep
    from swin_backbone.engine.ablation_plan import make_plan

    if args.demo and not args.config:
        from swin_backbone.engine.ablation_demo import make_data

        args.data_root = str(make_data(args.data_root))
    plan = make_plan(
        table=args.table,
        task=args.task or 'segmentation',
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
    )
    means = Means(Path(__file__).parent, args.launcher or 'none', args.gpus or 1, args.jobs or 1)
    sweep = Sweep(plan, args.rows, say)
    sweep.clear(args.redo)
    if args.print_commands:
        for line in sweep.commands(means):
            print(line)
        return
    sweep.check()
    failures = sweep.make(means)
    print((plan.report_dir / 'table.md').read_text())
    print(f'table.csv, table.md, index.html and plot.png are in {plan.report_dir}')
    if failures:
        print('\n'.join(failures), file=sys.stderr)
        raise SystemExit(EXIT_FAILURE)


def say(line: str) -> None:
    """Tell what happens, at once even into a file."""
    print(line, flush=True)


def time_methods(args: argparse.Namespace) -> None:
    """Table 5."""
    from swin_backbone.reports.ablation_speed import make_protocol, measure
    from swin_backbone.reports.ablation_speed_page import write_speed

    protocol = make_protocol(
        args.rows, args.variants, args.shape, args.batch, args.dtype, args.warm_up, args.rounds, args.demo
    )
    speeds = measure(protocol, say)
    folder = Path(args.work_dir or ('work_dirs/ablate-demo' if args.demo else 'work_dirs/ablate')) / TIMED
    print(write_speed(folder, speeds))
    print(f'table.csv, table.md, table.json, index.html and plot.png are in {folder}')


if __name__ == '__main__':
    run(main)
