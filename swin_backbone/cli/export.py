"""Export a trained model as an ONNX file or a torch.export program."""

from collections.abc import Sequence
from pathlib import Path

from swin_backbone.cli import Parser
from swin_backbone.cli._options import CONFIG, add_config_options
from swin_backbone.errors import InputError

SUFFIXES = ('.onnx', '.pt2')


def build_parser() -> Parser:
    """Build the argument parser."""
    parser = Parser(
        'Export a segmenter, a detector, or the backbone of any model. ONNX files are compared with the model at '
        'several sizes.',
        'swin-backbone export upernet_swin_t_160k upernet.pth upernet.onnx',
    )
    parser.add_argument('config', metavar='CONFIG', help=CONFIG)
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='the whole model: a path, a URL, hf-hub:OWNER/NAME, a published name, or released',
    )
    parser.add_argument(
        'file', metavar='FILE', type=Path, help='output file: .onnx, or .pt2 for a torch.export program'
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        '--backbone', action='store_true', help='export only the backbone; its input is a batch of normalised images'
    )
    part.add_argument('--raw', action='store_true', help='export a one-stage detector without box decoding and NMS')
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        default=[256, 256],
        metavar=('H', 'W'),
        help='size of the example image (default: 256 256)',
    )
    parser.add_argument(
        '--fixed', action='store_true', help='support only one image of this size (default: any batch and image size)'
    )
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Export a model and print the largest differences between file and model."""
    args = build_parser().parse_args(argv)
    if args.file.suffix not in SUFFIXES:
        raise InputError(f'{args.file} must end in {" or ".join(SUFFIXES)}.')
    import torch

    from swin_backbone.engine.checkpoints import choose_source
    from swin_backbone.engine.config import load_config
    from swin_backbone.engine.error_explanations import explained, suggesting_config
    from swin_backbone.engine.exporting import build_exportable
    from swin_backbone.engine.path_check import check_writable
    from swin_backbone.export import CHECKED_SIZES, compare_onnx, export_onnx, export_program
    from swin_backbone.files import replacing

    checkpoint = choose_source(args.checkpoint, args.config)
    check_writable(args.file.parent, 'FILE')
    config = load_config(args.config, args.cfg_options)
    with explained(config), suggesting_config(checkpoint):
        model = build_exportable(config, checkpoint, 'backbone' if args.backbone else 'raw' if args.raw else 'model')
    if args.file.suffix == '.pt2':
        program = export_program(model, args.image_size, not args.fixed)
        with replacing(args.file) as part:
            torch.export.save(program, part)
        print(f'{args.file} written')
        return
    export_onnx(model, args.file, args.image_size, not args.fixed)
    print(f'{args.file} written; largest difference between onnxruntime and model, relative to the largest output:')
    sizes = [(1, *args.image_size)] if args.fixed else CHECKED_SIZES
    for (batch, height, width), error in compare_onnx(model, args.file, sizes).items():
        print(f'  {batch} x 3 x {height} x {width}: {error:.1e}')
