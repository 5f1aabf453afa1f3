"""Time our backbone against other implementations, in one process on one input."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from swin_backbone.engine.cli import Parser, run
from swin_backbone.errors import InputError

DTYPES = ('float32', 'float16', 'bfloat16')


def build_parser() -> Parser:
    """The options of the command line."""
    parser = Parser(
        'Time the backbone against the stock ones: turns taken in one process, medians after a warm-up.',
        'python tools/benchmark.py backbone --against mmdet --shape 800 1216',
    )
    parser.add_argument('what', choices=['backbone'], help='what to time')
    parser.add_argument('--against', nargs='+', default=['mmdet'], metavar='NAME', help='mmdet, mmseg (mmdet)')
    parser.add_argument('--variant', default='tiny', help='tiny, small, base or large (tiny)')
    parser.add_argument('--shape', type=int, nargs=2, default=[800, 1216], metavar=('H', 'W'), help='(800 1216)')
    parser.add_argument('--batch', type=int, default=1, metavar='N', help='pictures (1)')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='of weights and input (float32)')
    parser.add_argument('--train', action='store_true', help='forward and backward instead of forward')
    parser.add_argument('--warm-up', type=int, default=2, metavar='N', help='rounds before the timed ones (2)')
    parser.add_argument('--rounds', type=int, default=9, metavar='N', help='timed rounds (9)')
    parser.add_argument('--json', metavar='FILE', help='write the figures here too')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    import torch

    from swin_backbone.reports import speed

    if min(*args.shape, args.batch, args.rounds) < 1 or args.warm_up < 0:
        raise InputError('--shape, --batch and --rounds must be at least 1 and --warm-up at least 0: change them.')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    image = torch.randn(args.batch, 3, *args.shape, dtype=getattr(torch, args.dtype), device=device)
    models = speed.find_backbones(args.variant, args.against)
    for name in args.against:
        if name not in models:
            print(f'{name} is not installed and left out')
    make_step = speed.training_step if args.train else speed.forward_step
    steps = {name: make_step(model.to(image), image) for name, model in models.items()}
    rows = speed.compare(speed.time_interleaved(steps, device, args.warm_up, args.rounds))
    kind = 'forward and backward' if args.train else 'forward'
    print(f'{kind} of Swin {args.variant}, {tuple(image.shape)}, {args.dtype}; {speed.hardware(device)}')
    print(speed.as_table(rows))
    if args.json:
        facts = dict(hardware=speed.hardware(device), shape=list(image.shape), dtype=args.dtype, train=args.train)
        Path(args.json).write_text(json.dumps({**facts, 'timings': [asdict(row) for row in rows]}, indent=2) + '\n')


if __name__ == '__main__':
    run(main)
