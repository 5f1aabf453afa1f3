"""Count parameters and multiply-adds as the papers do, beside the published numbers."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from swin_backbone.cli import Parser, results_only
from swin_backbone.errors import InputError
from swin_backbone.files import find_config, write_text

BACKBONE_SHAPE = (224, 224)


def build_parser() -> Parser:
    """The options of the command line."""
    parser = Parser(
        'Count parameters and multiply-adds of configs, or of a backbone alone, as the papers do.',
        'swin-backbone complexity cascade_swin_t_3x --shape 800 1280\n  swin-backbone complexity --variant base',
    )
    parser.add_argument('configs', metavar='CONFIG', nargs='*', help='(default: all installed configs but the demos)')
    parser.add_argument('--variant', metavar='NAME', help='count this backbone alone; needs torch alone')
    parser.add_argument('--version', type=int, choices=[1, 2], default=1, help='of --variant (default: 1)')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help="image size (default: the papers': 800 1280 for detectors, 512 2048 or 640 2560 for segmenters; 224 224 "
        'for a backbone)',
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument(
        '--markdown', metavar='FILE', type=Path, help='write a page about the configs instead of printing'
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table or JSON, or write a page."""
    args = build_parser().parse_args(argv)
    if args.variant and (args.configs or args.markdown):
        raise InputError('--variant counts a backbone alone: leave the configs and --markdown out.')
    shape = args.shape and (args.shape[0], args.shape[1])
    with results_only() as output:
        if args.variant:
            from swin_backbone.model_zoo.complexity import measure_backbone

            cost = measure_backbone(args.variant, args.version, shape or BACKBONE_SHAPE)
            size = f'{cost.params / 1e6:.2f}M parameters, {cost.flops / 1e9:.2f}G multiply-adds'
            text = json.dumps(asdict(cost)) if args.json else f'{size} at {cost.shape[0]}x{cost.shape[1]}'
            print(text, file=output)
            return
        from swin_backbone.model_zoo import page

        paths = [find_config(name) for name in args.configs] or page.find_configs()
        entries = [page.make_entry(path, shape) for path in paths]
        if args.markdown:
            write_text(args.markdown, page.as_markdown(entries, args.markdown.parent))
        elif args.json:
            print(json.dumps([page.as_dict(entry) for entry in entries], indent=2), file=output)
        else:
            print(page.as_text(entries), file=output)
