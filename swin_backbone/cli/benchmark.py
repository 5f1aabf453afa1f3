"""Benchmarks of this package's backbone against other implementations, in one process with the same input."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from swin_backbone.cli import Parser
from swin_backbone.errors import InputError

DTYPES = ('float32', 'float16', 'bfloat16')
CONFIG = 'mask_rcnn_swin_t_1x'


def build_parser() -> Parser:
    """Build the argument parser."""
    parser = Parser(
        'Time the backbone against other implementations, in alternating rounds in one process. Times are medians '
        'after a warm-up.',
        'swin-backbone benchmark backbone --against mmdet --shape 800 1216',
    )
    parser.add_argument(
        'what',
        choices=['backbone', 'attention', 'model', 'gpu', 'throughput', 'memory'],
        help='what to measure: the backbone; the shifted attention of every stage; a whole model with heads and '
        'post-processing. Three others have different options (see benchmark gpu --help): gpu, kernels and networks on '
        'a GPU; throughput, Tables 1 and 8 of the Swin paper; memory, memory use during a long training',
    )
    parser.add_argument(
        '--against',
        nargs='+',
        metavar='NAME',
        help='implementations: mmdet, mmseg, timm, torchvision, transformers (default: all installed); the first is '
        'the reference',
    )
    parser.add_argument('--config', metavar='CONFIG', help=f'config of the whole model (default: {CONFIG})')
    parser.add_argument('--variant', metavar='NAME', default='tiny', help='size of the backbone (default: %(default)s)')
    parser.add_argument('--version', type=int, default=1, choices=[1, 2], help='Swin version (default: %(default)s)')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=[800, 1216], metavar=('H', 'W'), help='image size (default: 800 1216)'
    )
    parser.add_argument(
        '--areas',
        type=float,
        nargs='+',
        metavar='MP',
        help='time the backbone at these image areas in megapixels, with an aspect ratio of 2:3, instead of --shape',
    )
    parser.add_argument('--plot', metavar='FILE', help='with --areas: plot time and memory over the area as PNG')
    parser.add_argument('--batch', type=int, default=1, metavar='N', help='batch size (default: %(default)s)')
    parser.add_argument(
        '--dtype', choices=DTYPES, default='float32', help='half precision uses autocast (default: %(default)s)'
    )
    parser.add_argument('--train', action='store_true', help='time forward and backward pass instead of inference')
    parser.add_argument('--compile', action='store_true', help='apply torch.compile to every backbone (takes minutes)')
    parser.add_argument('--warm-up', type=int, metavar='N', help='untimed rounds (default: 2; 50 on a GPU)')
    parser.add_argument('--rounds', type=int, metavar='N', help='timed rounds (default: 9; 30 on a GPU)')
    parser.add_argument('--json', metavar='FILE', help='also write the results to a file')
    return parser


def build_gpu_parser() -> Parser:
    """Build the argument parser of ``benchmark gpu``."""
    parser = Parser(
        'Measure the Triton kernels and whole backbones on a GPU. The most important rows are measured first, and '
        'the results are written after each row.',
        'swin-backbone benchmark gpu --out work_dirs/gpu',
        prog='swin-backbone benchmark gpu',
    )
    parser.add_argument(
        '--budget', type=float, default=300.0, metavar='SECONDS', help='time limit (default: %(default)g)'
    )
    parser.add_argument(
        '--out', default='work_dirs/gpu', metavar='FOLDER', help='folder of gpu.md and gpu.json (default: %(default)s)'
    )
    return parser


def build_throughput_parser() -> Parser:
    """Build the argument parser of ``benchmark throughput``."""
    parser = Parser(
        "Time the classifiers of the Swin paper's Tables 1 and 8, and compare them with the paper's images per second "
        'on a V100.',
        'swin-backbone benchmark throughput --rows swin-t-224 swin-t-384 deit-s-224',
        prog='swin-backbone benchmark throughput',
    )
    parser.add_argument('--rows', nargs='+', metavar='NAME', help='rows (default: Swin only; the others need timm)')
    parser.add_argument('--batch', type=int, metavar='N', help='batch size (default: 64; 1 on a CPU)')
    parser.add_argument(
        '--dtype', choices=DTYPES, default='float32', help='half precision uses autocast (default: %(default)s)'
    )
    parser.add_argument('--warm-up', type=int, metavar='N', help='untimed rounds (default: 50; 2 on a CPU)')
    parser.add_argument('--rounds', type=int, metavar='N', help='timed rounds (default: 30; 9 on a CPU)')
    parser.add_argument('--json', metavar='FILE', help='also write the results to a file')
    return parser


def measure_throughput(argv: Sequence[str]) -> None:
    """Run ``benchmark throughput``."""
    args = build_throughput_parser().parse_args(argv)
    import torch

    from swin_backbone.benchmark import throughput, timing
    from swin_backbone.files import write_json

    networks = throughput.choose(args.rows)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    defaults = dict(batch=64, warm_up=50, rounds=30) if device == 'cuda' else dict(batch=1, warm_up=2, rounds=9)
    batch, warm_up, rounds = (defaults[k] if getattr(args, k) is None else getattr(args, k) for k in defaults)
    if min(batch, rounds) < 1 or warm_up < 0:
        raise InputError('--batch and --rounds must be at least 1 and --warm-up at least 0: change them.')
    facts = timing.environment(device)
    rows, left_out = throughput.measure(networks, batch, getattr(torch, args.dtype), device, warm_up, rounds)
    print(timing.describe(facts))
    print(f'inference, batch {batch}, {args.dtype}; relative: to Swin-T at 224 x 224, in the paper / here\n')
    print(throughput.as_table(rows, batch))
    for name, reason in left_out.items():
        print(f'{name} is left out: {reason}')
    if args.json:
        settings = dict(batch=batch, warm_up=warm_up, rounds=rounds, dtype=args.dtype)
        timings = [dict(asdict(row), paper=throughput.NETWORKS[row.name].paper) for row in rows]
        write_json(Path(args.json), dict(**settings, environment=facts, timings=timings, left_out=left_out))


def build_memory_parser() -> Parser:
    """Build the argument parser of ``benchmark memory``."""
    parser = Parser(
        'Train on images of varying sizes, and compare memory, open files and workers at the start and at the end.',
        'swin-backbone benchmark memory --plot memory.png',
        prog='swin-backbone benchmark memory',
    )
    parser.add_argument(
        '--iterations', type=int, default=500, metavar='N', help='training iterations (default: %(default)s)'
    )
    parser.add_argument('--variant', metavar='NAME', default='tiny', help='size of the backbone (default: %(default)s)')
    parser.add_argument(
        '--sides',
        type=int,
        nargs=2,
        default=[32, 256],
        metavar=('MIN', 'MAX'),
        help='smallest and largest image side in pixels (default: 32 256)',
    )
    parser.add_argument(
        '--config', metavar='CONFIG', help='train the model of this config on its data instead of a backbone on noise'
    )
    parser.add_argument('--data-root', metavar='DIR', help='with --config: folder of the data set')
    parser.add_argument(
        '--workers',
        type=int,
        default=2,
        metavar='N',
        help='with --config: data loading processes (default: %(default)s)',
    )
    parser.add_argument('--plot', metavar='FILE', help='plot all measurements over the iterations as PNG')
    parser.add_argument('--json', metavar='FILE', help='also write the results to a file')
    return parser


def measure_memory(argv: Sequence[str]) -> None:
    """Run ``benchmark memory``."""
    args = build_memory_parser().parse_args(argv)
    if args.iterations < 1 or args.workers < 0 or not 1 <= args.sides[0] <= args.sides[1]:
        raise InputError(
            '--iterations must be at least 1, --workers at least 0, and --sides ascending from 1: change them.'
        )
    from swin_backbone.benchmark import memory, timing
    from swin_backbone.files import write_bytes, write_json

    memory.check_platform()
    if args.config:
        found = memory.train_config(args.config, args.data_root, args.workers, args.iterations)
    else:
        found = memory.train_backbone(args.variant, args.iterations, tuple(args.sides))
    facts = timing.environment(memory.device())
    print(f'{timing.describe(facts)}\n\n{memory.as_table(found)}')
    if args.plot:
        write_bytes(Path(args.plot), memory.plot(found))
    if args.json:
        write_json(Path(args.json), dict(vars(args), environment=facts, samples=[asdict(each) for each in found]))


def measure_gpu(argv: Sequence[str]) -> None:
    """Run ``benchmark gpu``."""
    args = build_gpu_parser().parse_args(argv)
    from swin_backbone.ablations.gpu_rows import table5
    from swin_backbone.benchmark import gpu

    gpu.measure_gpu(Path(args.out), args.budget, table5())


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table of timings."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    apart = {'gpu': measure_gpu, 'throughput': measure_throughput, 'memory': measure_memory}
    if arguments and arguments[0] in apart:
        return apart[arguments[0]](arguments[1:])
    args = build_parser().parse_args(arguments)
    if args.what in apart:
        raise InputError(
            f'benchmark {args.what} has different options: put {args.what} first, and see benchmark {args.what} --help.'
        )
    import torch

    from swin_backbone.benchmark import timing
    from swin_backbone.files import write_bytes, write_json

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if args.areas:
        args.areas = [area_shape(area) for area in args.areas]
    args.warm_up = (2 if device == 'cpu' else 50) if args.warm_up is None else args.warm_up
    args.rounds = (9 if device == 'cpu' else 30) if args.rounds is None else args.rounds
    check(args)
    facts = timing.environment(device)
    rows, left_out = measure_areas(args, device) if args.areas else measure(args, device)
    print(timing.describe(facts))
    kind = 'forward and backward' if args.train else 'inference'
    compiled = ', compiled' if args.compile else ''
    size = 'H x W' if args.areas else f'{args.shape[0]} x {args.shape[1]}'
    print(f'{kind} of {args.what}, {args.batch} x 3 x {size}, {args.dtype}{compiled}\n')
    print(timing.as_table(rows))
    for name, reason in left_out.items():
        print(f'{name} is left out: {reason}')
    if args.plot:
        from swin_backbone.benchmark.plot import plot_areas

        write_bytes(Path(args.plot), plot_areas(rows, args.variant, args.version))
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name != 'json'}
        timings = [asdict(row) for row in rows]
        write_json(Path(args.json), dict(**settings, environment=facts, timings=timings, left_out=left_out))


def check(args: Any) -> None:
    """Check the options.

    Raises:
        InputError: if a value is invalid, or options cannot be combined.
    """
    if min(*args.shape, args.batch, args.rounds) < 1 or args.warm_up < 0:
        raise InputError('--shape, --batch and --rounds must be at least 1 and --warm-up at least 0: change them.')
    if args.what == 'model' and args.train:
        raise InputError('--train is not for model, which times a prediction without a backward pass: leave it out.')
    if args.areas and (args.what != 'backbone' or args.compile):
        raise InputError('--areas is for backbone without --compile: leave one of them out.')
    if args.plot and not args.areas:
        raise InputError('--plot draws time over the image area: add --areas.')
    if args.what != 'model' and args.config:
        raise InputError(f'--config is for model only: leave it out, or time model instead of {args.what}.')
    if args.what != 'backbone' and args.compile:
        raise InputError(f'--compile is for backbone only: leave it out, or time backbone instead of {args.what}.')


def area_shape(megapixels: float) -> tuple[int, int]:
    """Return height and width, in multiples of 32 pixels, of an image of aspect ratio 2:3 with about this area."""
    unit = (megapixels * 1e6 / 6) ** 0.5
    return max(1, round(2 * unit / 32)) * 32, max(1, round(3 * unit / 32)) * 32


def measure_areas(args: Any, device: str) -> tuple[list[Any], dict[str, str]]:
    """Return the timings of the backbone at every area, with the size as part, and the skipped implementations."""
    rows: list[Any] = []
    left_out: dict[str, str] = {}
    for shape in args.areas:
        args.shape = shape
        more, failed = measure(args, device)
        rows += [replace(row, part=f'{shape[0]} x {shape[1]}') for row in more]
        left_out |= failed
    return rows, left_out


def measure(args: Any, device: str) -> tuple[list[Any], dict[str, str]]:
    """Return the timings, and the reason for each skipped implementation."""
    import torch

    from swin_backbone.benchmark import implementations

    dtype, shape = getattr(torch, args.dtype), (args.shape[0], args.shape[1])
    against = list(implementations.BUILDERS) if args.against is None else args.against
    if args.what == 'model':
        from swin_backbone.benchmark.models import build_networks, time_networks
        from swin_backbone.engine.config import load_config

        found = build_networks(load_config(args.config or CONFIG, None), against, device)
        return time_networks(found, shape, args.batch, dtype, device, args.warm_up, args.rounds), found.left_out
    found = implementations.find_backbones(args.variant, args.version, shape, against, device)
    if args.what == 'backbone':
        if args.compile:
            implementations.compile_all(found)
        x = torch.randn(args.batch, 3, *shape, device=device)
        return time_part(args, found, 'backbone', dict.fromkeys(found.models, implementations.maps_of), x)
    rows: list[Any] = []
    left_out: dict[str, str] = {}
    for stage in range(4):
        x = implementations.stage_input(args.batch, shape, args.variant, args.version, stage).to(device)
        calls = {name: implementations.shifted_attention(name, model, stage) for name, model in found.models.items()}
        more, failed = time_part(args, found, f'stage {stage + 1}', calls, x)
        rows, left_out = rows + more, left_out | failed
    return rows, left_out


def time_part(args: Any, found: Any, part: str, calls: dict[str, Any], x: Any) -> tuple[list[Any], dict[str, str]]:
    """Time one call of every implementation that provides it."""
    import torch

    from swin_backbone.benchmark import timing
    from swin_backbone.benchmark.implementations import make_steps

    alone = {name: 'its attention has no separate call' for name, call in calls.items() if call is None}
    calls = {name: call for name, call in calls.items() if call is not None}
    device = x.device.type
    steps, failed = timing.runnable(make_steps(found, calls, x, getattr(torch, args.dtype), args.train))
    times = timing.time_interleaved(steps, device, args.warm_up, args.rounds)
    rows = timing.compare(times, part, timing.peak_memory(steps, device))
    return rows, found.left_out | alone | failed
