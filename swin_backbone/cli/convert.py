"""Convert the weights of a backbone to the layout of another implementation."""

from collections.abc import Sequence

from swin_backbone.checkpoint.export import convert_file
from swin_backbone.checkpoint.layouts import WRITABLE
from swin_backbone.cli import Parser


def main(argv: Sequence[str] | None = None) -> None:
    """Convert one checkpoint."""
    parser = Parser(__doc__, 'swin-backbone convert work_dirs/demo/epoch_12.pth swin_for_timm.safetensors --to timm')
    parser.add_argument(
        'source', metavar='SOURCE', help='weights in any layout: a file, a folder of shards, a URL or a published name'
    )
    parser.add_argument('destination', metavar='FILE', help='output file, .pth or .safetensors')
    parser.add_argument('--to', required=True, choices=WRITABLE, help='layout of the output')
    parser.add_argument('--force', action='store_true', help='overwrite FILE')
    parser.add_argument(
        '--window-size',
        type=int,
        nargs='+',
        metavar='N',
        help='window size (one or two numbers), for --to torchvision if SOURCE does not contain it',
    )
    parser.add_argument(
        '--pretrained-window-sizes',
        type=int,
        nargs='+',
        metavar='N',
        help='window sizes of the pre-training per stage, for --to torchvision with V2 if they differ',
    )
    args = parser.parse_args(argv)
    print(convert_file(**vars(args)))
