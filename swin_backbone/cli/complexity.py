"""Count parameters and multiply-adds as the papers do, and compare them with the published numbers."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from swin_backbone.cli import Parser, results_only
from swin_backbone.errors import InputError
from swin_backbone.files import find_config, write_text

BACKBONE_SHAPE = (224, 224)
GPUS = 8


def build_parser() -> Parser:
    """Build the argument parser."""
    parser = Parser(
        'Count parameters and multiply-adds of configs, or of a single backbone, as the papers do.',
        'swin-backbone complexity cascade_swin_t_3x --shape 800 1280\n  swin-backbone complexity --variant base',
    )
    parser.add_argument(
        'configs', metavar='CONFIG', nargs='*', help='configs (default: all installed ones except demos)'
    )
    parser.add_argument('--variant', metavar='NAME', help='count a single backbone of this size; needs torch only')
    parser.add_argument(
        '--network',
        choices=['swin', 'mixer', 'video'],
        default='swin',
        help='network of --variant: Swin Transformer (default), Swin-Mixer, or Video Swin for a clip of 32 frames',
    )
    parser.add_argument('--version', type=int, choices=[1, 2], default=1, help='Swin version of --variant (default: 1)')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help="image size (default: the papers': 800 1280 for detectors, 512 2048 or 640 2560 for segmenters; 224 224 "
        'for a backbone)',
    )
    parser.add_argument(
        '--window', type=int, metavar='N', help='window size of --variant (default: 7, or 8 for version 2)'
    )
    parser.add_argument(
        '--memory',
        action='store_true',
        help='estimate the GPU memory of training: parameters, gradients, AdamW states and activations',
    )
    parser.add_argument(
        '--gpus', type=int, metavar='N', help='number of GPUs that divide the AdamW states in --memory (default: 8)'
    )
    parser.add_argument(
        '--classification', action='store_true', help="count the papers' classifiers, and print them as Markdown"
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument(
        '--markdown', metavar='FILE', type=Path, help='write Markdown pages to FILE and next to it instead of printing'
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table or JSON, or write Markdown pages."""
    args = build_parser().parse_args(argv)
    if args.variant and (args.configs or args.markdown):
        raise InputError('--variant counts a single backbone: leave CONFIG and --markdown out.')
    if args.window is not None and not args.variant:
        raise InputError('--window is for a single backbone: add --variant, or leave it out.')
    if args.network != 'swin' and (not args.variant or args.memory or args.version == 2):
        raise InputError(
            '--network needs --variant and cannot be combined with --memory or --version: change the options.'
        )
    if args.memory and not (args.variant or args.configs):
        raise InputError('--memory needs a CONFIG or --variant: add one.')
    if args.gpus is not None and (not args.memory or args.gpus < 1):
        raise InputError(
            '--gpus is the number of GPUs for --memory and must be at least 1: add --memory, or change it.'
        )
    if args.classification and (args.configs or args.variant or args.memory or args.json or args.shape):
        raise InputError('--classification can only be combined with --markdown: leave the other options out.')
    shape = args.shape and (args.shape[0], args.shape[1])
    with results_only() as output:
        if args.classification:
            from swin_backbone.model_zoo import classification

            text = classification.as_markdown()
            if args.markdown:
                write_text(args.markdown, text)
            else:
                print(text, file=output)
            return
        if args.memory:
            print_memory(args, shape, output)
            return
        if args.variant:
            from swin_backbone.model_zoo.complexity import measure_backbone

            cost = measure_backbone(args.variant, args.version, shape or BACKBONE_SHAPE, args.window, args.network)
            size = f'{cost.params / 1e6:.2f}M parameters, {cost.flops / 1e9:.2f}G multiply-adds'
            sides = f'{"32x" if args.network == "video" else ""}{cost.shape[0]}x{cost.shape[1]}'
            text = json.dumps(asdict(cost)) if args.json else f'{size} at {sides}'
            print(text, file=output)
            return
        from swin_backbone.model_zoo import page

        paths = [find_config(name) for name in args.configs] or page.find_configs()
        entries = [page.make_entry(path, shape) for path in paths]
        if args.markdown:
            for name, text in page.as_pages(entries).items():
                write_text(args.markdown if name == 'model_zoo.md' else args.markdown.with_name(name), text)
        elif args.json:
            print(json.dumps([page.as_dict(entry) for entry in entries], indent=2), file=output)
        else:
            print(page.as_text(entries), file=output)


def print_memory(args: Any, shape: tuple[int, int] | None, output: TextIO) -> None:
    """Print the GPU memory needed to train each network."""
    from swin_backbone.model_zoo import memory

    if args.variant:
        backbone = dict(variant=args.variant, version=args.version, window_size=args.window)
        found = {args.variant: memory.estimate(backbone, shape or BACKBONE_SHAPE)}
    else:
        found = {name: memory.estimate_config(find_config(name), shape) for name in args.configs}
    if args.json:
        print(json.dumps({name: asdict(each) for name, each in found.items()}, indent=2), file=output)
        return
    for name, each in found.items():
        size = f'{each.params / 1e6:.1f}M parameters, images of {each.shape[0]}x{each.shape[1]}'
        print(f'{name}: {size}\n\n{memory.as_markdown(each, args.gpus or GPUS)}\n', file=output)
