"""Write a backbone's weights in the layout of another implementation."""

from collections.abc import Sequence

from swin_backbone.checkpoint.export import convert_file
from swin_backbone.checkpoint.layouts import WRITABLE
from swin_backbone.cli import Parser


def main(argv: Sequence[str] | None = None) -> None:
    """Convert one file."""
    parser = Parser(__doc__, 'swin-backbone convert work_dirs/demo/epoch_12.pth swin_for_timm.safetensors --to timm')
    parser.add_argument('source', help='weights in any layout: a file, a folder of shards, an address or a name')
    parser.add_argument('destination', help='the file to write, .pth or .safetensors')
    parser.add_argument('--to', required=True, choices=WRITABLE, help='whose layout to write')
    parser.add_argument('--force', action='store_true', help='overwrite the destination')
    parser.add_argument(
        '--window-size',
        type=int,
        nargs='+',
        metavar='N',
        help='side of the windows, or rows and columns, where the source does not tell and torchvision asks',
    )
    parser.add_argument(
        '--pretrained-window-sizes',
        type=int,
        nargs='+',
        metavar='N',
        help='V2, torchvision: the windows per stage that the weights were trained with, if others',
    )
    args = parser.parse_args(argv)
    print(convert_file(**vars(args)))
