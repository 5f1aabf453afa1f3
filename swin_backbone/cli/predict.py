"""Predict images with a trained detector or segmenter: drawings and JSON."""

from collections.abc import Sequence
from pathlib import Path

from swin_backbone.cli import Parser
from swin_backbone.cli._options import add_config_options
from swin_backbone.errors import InputError


def build_parser() -> Parser:
    """The options of the command line."""
    parser = Parser(
        'Predict one image, or every image in a folder: a drawing and a JSON file each.',
        'swin-backbone predict cascade_swin_t_3x cascade.pth photographs/ --out-dir drawn',
    )
    parser.add_argument('config', metavar='CONFIG', help='a config file')
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='the whole model: a path, a URL, hf-hub:OWNER/NAME, a published name, or released',
    )
    parser.add_argument('source', metavar='IMAGE|FOLDER', type=Path, help='an image, or a folder of images')
    parser.add_argument(
        '--out-dir', metavar='DIR', type=Path, default=Path('predictions'), help='where to write (default: %(default)s)'
    )
    parser.add_argument(
        '--score-threshold', metavar='S', type=float, default=0.3, help='least score of a detection (default: 0.3)'
    )
    parser.add_argument('--device', metavar='NAME', help='cpu, cuda, cuda:1 ... (default: a GPU if there is one)')
    parser.add_argument('--classes', metavar='A,B,C|FILE', help='the classes that the model was trained on')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Predict every image of a folder, and name the files that were skipped."""
    args = build_parser().parse_args(argv)
    from swin_backbone.engine.checkpoints import choose_source
    from swin_backbone.engine.classes import name_classes, read_classes
    from swin_backbone.engine.config import load_config
    from swin_backbone.engine.explain import advising, explained
    from swin_backbone.engine.option_check import require_test
    from swin_backbone.engine.place_check import check_writable
    from swin_backbone.engine.predict import Predictor, find_files, predict_files
    from swin_backbone.files import progress_bar

    checkpoint = choose_source(args.checkpoint, args.config)
    files = find_files(args.source)
    if not 0 <= args.score_threshold <= 1:
        raise InputError(f'--score-threshold must be from 0 to 1, got {args.score_threshold}.')
    check_writable(args.out_dir, '--out-dir')
    check_device(args.device)
    config = load_config(args.config, args.cfg_options)
    with explained(config), advising(checkpoint):
        require_test(config, ('test_dataloader',))
        if args.classes is not None:
            name_classes(config, read_classes(args.classes))
        predictor = Predictor(config, checkpoint, args.device)
    skipped = []
    with progress_bar('predicting', len(files), unit=' images') as progress:
        for path, problem in predict_files(predictor, args.source, args.out_dir, args.score_threshold):
            progress.update()
            if problem:
                skipped.append(f'skipped {path}: {problem}')
    print(*skipped, sep='\n', end='\n' if skipped else '')
    if len(skipped) == len(files):
        raise InputError(f'{args.source} holds no image: give an image or a folder of images.')
    count = len(files) - len(skipped)
    print(f'{count} image{"s" if count > 1 else ""} predicted, drawings and JSON in {args.out_dir}')


def check_device(name: str | None) -> None:
    """Refuse a device that is not there.

    Raises:
        InputError: it cannot hold a tensor.
    """
    import torch

    try:
        torch.empty(1, device=name or 'cpu')
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip('.')
        raise InputError(
            f'--device {name} cannot be used ({reason}): give cpu, or cuda where a GPU is visible.'
        ) from error
