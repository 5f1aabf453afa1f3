"""Draw the feature energy of an image and, for one of its pixels, the window attention."""

from collections.abc import Sequence
from pathlib import Path

from swin_backbone.cli import Parser
from swin_backbone.cli._options import add_config_options


def build_parser() -> Parser:
    """Build the argument parser."""
    parser = Parser(
        'Draw the feature energy of every stage over an image and, with --query, the window attention of one pixel.',
        'swin-backbone visualize cascade_swin_t_3x swin_t_in1k dog.jpg --query 320 200',
    )
    parser.add_argument('config', metavar='CONFIG', help='the config whose backbone and test size are used')
    parser.add_argument(
        'weights',
        metavar='CHECKPOINT',
        help='weights of the model or the backbone: a path, a published name, a URL, or none',
    )
    parser.add_argument('image', metavar='IMAGE', type=Path, help='an image file')
    parser.add_argument('--query', nargs=2, type=int, metavar=('X', 'Y'), help='column and row of a pixel of the image')
    parser.add_argument('--stage', metavar='N', type=int, default=2, help='stage of the attention, from 0 (default: 2)')
    parser.add_argument(
        '--block', metavar='N', type=int, nargs='+', default=(), help='blocks of the stage, from 0 (default: all)'
    )
    parser.add_argument('--head', metavar='N', type=int, help='attention head, from 0 (default: the mean of all)')
    parser.add_argument(
        '--out-dir', metavar='DIR', type=Path, default=Path('inside'), help='output folder (default: %(default)s)'
    )
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the drawings, and print their paths."""
    args = build_parser().parse_args(argv)
    from swin_backbone.engine.config import load_config
    from swin_backbone.inspection.drawing import build_subject, visualize

    subject = build_subject(load_config(args.config, args.cfg_options), args.weights, args.image)
    query = tuple(args.query) if args.query else None
    for path in visualize(subject, args.out_dir, query, args.stage, args.block, args.head):
        print(path)
