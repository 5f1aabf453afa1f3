"""Predict images and videos with a trained detector or segmenter: drawings and JSON."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swin_backbone.cli import Parser
from swin_backbone.cli._options import CONFIG, add_config_options
from swin_backbone.errors import InputError


def build_parser() -> Parser:
    """Build the argument parser."""
    parser = Parser(
        'Predict images, folders, videos or a camera; write drawings and JSON.',
        'swin-backbone predict cascade_swin_t_3x cascade.pth photographs/ --out-dir drawn',
    )
    parser.add_argument('config', metavar='CONFIG', help=CONFIG)
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='the whole model: a path, a URL, hf-hub:OWNER/NAME, a published name, or released',
    )
    parser.add_argument(
        'sources',
        metavar='SOURCE',
        nargs='+',
        help="images, videos, folders, quoted patterns such as 'photos/*.jpg', or a camera number",
    )
    parser.add_argument(
        '--out-dir', metavar='DIR', type=Path, default=Path('predictions'), help='output folder (default: %(default)s)'
    )
    parser.add_argument(
        '--score-threshold', metavar='S', type=float, default=0.3, help='minimum score of a detection (default: 0.3)'
    )
    parser.add_argument('--only', metavar='A,B,C', help='write only these classes')
    parser.add_argument('--coco-json', metavar='FILE', type=Path, help='write the objects of all images in COCO format')
    parser.add_argument(
        '--tta', action='store_true', help='predict at several scales with flips, and merge the predictions'
    )
    parser.add_argument('--device', metavar='NAME', help='cpu, cuda or cuda:N (default: a GPU if there is one)')
    parser.add_argument('--bf16', action='store_true', help='run the model in bfloat16')
    parser.add_argument(
        '--classes', metavar='A,B,C|FILE', help='classes of the model, if its checkpoint does not contain them'
    )
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Predict every source, and list skipped files."""
    args = build_parser().parse_args(argv)
    if not 0 <= args.score_threshold <= 1:
        raise InputError(f'--score-threshold must be from 0 to 1, got {args.score_threshold}.')
    from swin_backbone.engine.path_check import check_writable
    from swin_backbone.engine.predict_sources import check_outputs, find_files, is_camera, is_video

    cameras = [int(source) for source in args.sources if is_camera(source)]
    files = find_files([source for source in args.sources if not is_camera(source)])
    check_outputs(files, args.out_dir)
    videos = {path: place for path, place in files.items() if is_video(path)}
    images = {path: place for path, place in files.items() if not is_video(path)}
    if args.coco_json and (videos or cameras):
        raise InputError('--coco-json supports images only, but the sources include a video or a camera: leave it out.')
    check_writable(args.out_dir, '--out-dir')
    if args.coco_json:
        check_writable(args.coco_json.parent, '--coco-json')
    predictor, only = build_predictor(args)
    count = predict_images(predictor, images, only, args) if images else 0
    frames = predict_videos(predictor, videos, cameras, only, args) if videos or cameras else 0
    if not count + frames:
        raise InputError(f'{", ".join(args.sources)} contains no readable image: give an image or a folder of images.')
    done = [f'{n} {what}{"s" if n > 1 else ""}' for n, what in ((count, 'image'), (frames, 'frame')) if n]
    print(f'{" and ".join(done)} predicted, drawings and JSON in {args.out_dir}')


def build_predictor(args: argparse.Namespace) -> tuple[Any, list[str] | None]:
    """Build the predictor, and parse the classes of ``--only``.

    Raises:
        InputError: if an option is invalid.
    """
    from swin_backbone.engine.class_names import read_classes
    from swin_backbone.engine.config import load_config
    from swin_backbone.engine.predict import Predictor, choose_device
    from swin_backbone.engine.prediction import labels_of

    try:
        choose_device(args.device)
    except InputError as error:
        raise InputError(f'--{error}') from error
    config = load_config(args.config, args.cfg_options)
    classes = None if args.classes is None else read_classes(args.classes)
    predictor = Predictor(config, args.checkpoint, args.device, classes, tta=args.tta, bf16=args.bf16)
    only = None if args.only is None else [name.strip() for name in args.only.split(',')]
    labels_of(only, list(predictor.meta['classes']))
    if args.coco_json and 'decode_head' in config.model:
        raise InputError('--coco-json supports detectors only, but the config is for a segmenter: leave it out.')
    return predictor, only


def predict_images(predictor: Any, files: dict[Path, Path], only: list[str] | None, args: argparse.Namespace) -> int:
    """Predict images and return the number of images that were not skipped."""
    from swin_backbone.engine.predict_files import CocoFile, predict_files
    from swin_backbone.files import progress_bar

    coco = CocoFile() if args.coco_json else None
    skipped = []
    with progress_bar('predicting', len(files), unit=' images') as progress:
        for path, problem in predict_files(predictor, files, args.out_dir, args.score_threshold, only, coco):
            progress.update()
            if problem:
                skipped.append(f'skipped {path}: {problem}')
    print(*skipped, sep='\n', end='\n' if skipped else '')
    if coco is not None:
        coco.write(args.coco_json, predictor.meta['classes'])
    return len(files) - len(skipped)


def predict_videos(
    predictor: Any, videos: dict[Path, Path], cameras: list[int], only: list[str] | None, args: argparse.Namespace
) -> int:
    """Predict videos and cameras and return the number of frames."""
    from swin_backbone.engine.predict_video import count_frames, predict_video
    from swin_backbone.files import progress_bar

    frames = 0
    sources: dict[Path | int, tuple[Path, int | None]] = {
        path: (place, count_frames(path) or None) for path, place in videos.items()
    }
    sources |= {number: (Path(f'camera_{number}'), None) for number in cameras}
    for source, (place, total) in sources.items():
        with progress_bar(f'predicting {place}', total, unit=' frames') as progress:
            frames += predict_video(
                predictor, source, args.out_dir / place, args.score_threshold, only, progress.update
            )
    return frames
