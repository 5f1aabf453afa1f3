"""Evaluate a classifier on ImageNet's validation images, or classify images with it."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from swin_backbone.cli import Parser, results_only
from swin_backbone.cli._options import add_machine_options, use_machine
from swin_backbone.errors import InputError

BATCH = 64
"""Batch size of the papers' images per second."""

IMAGENET_CLASSES = 1000

ROUNDS = {'cpu': (1, 3), 'cuda': (50, 30)}
"""Untimed and timed rounds of ``--throughput``."""


def build_parser() -> Parser:
    """Build the argument parser."""
    parser = Parser(
        "Evaluate the classifier of a checkpoint on ImageNet with the papers' protocol, or classify images.",
        'swin-backbone classify swin_t_in1k imagenet/val\n  swin-backbone classify swin_t_in1k photos --names a.txt',
    )
    parser.add_argument(
        'source', metavar='SOURCE', help='checkpoint of a classifier: a published name, a path or a URL'
    )
    parser.add_argument(
        'paths',
        metavar='PATH',
        nargs='*',
        type=Path,
        help='a folder with one subfolder per class to evaluate, or images and folders of images to classify',
    )
    parser.add_argument('--names', metavar='FILE', type=Path, help='file with the class names, one per line')
    parser.add_argument(
        '--limit', type=int, metavar='N', help='evaluate only N images, evenly distributed over the classes'
    )
    parser.add_argument('--throughput', action='store_true', help='measure images per second on random images')
    parser.add_argument('--batch-size', type=int, default=BATCH, metavar='N', help='batch size (default: 64)')
    parser.add_argument('--bf16', action='store_true', help='compute in bfloat16')
    parser.add_argument(
        '--window-size', type=int, metavar='N', help='window size of Swin V2, if the checkpoint does not contain it'
    )
    parser.add_argument(
        '--pretrained-window-sizes',
        type=int,
        nargs='+',
        metavar='N',
        help='window sizes per stage in the pre-training of Swin V2, if they differ and the checkpoint does not '
        'contain them',
    )
    parser.add_argument('--image-size', type=int, metavar='N', help='image size, if the checkpoint does not contain it')
    add_machine_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the accuracy, the classes of images, or the throughput."""
    args = build_parser().parse_args(argv)
    if not args.paths and not args.throughput:
        raise InputError('there is nothing to classify: give images or a validation folder, or --throughput.')
    for name in ('batch_size', 'limit', 'window_size', 'image_size'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise InputError(f'--{name.replace("_", "-")} must be at least 1, got {getattr(args, name)}.')
    absent = next((path for path in args.paths if not path.exists()), None)
    if absent is not None:
        raise InputError(f'image or folder {absent} does not exist: check the path.')
    use_machine(args.device, args.threads)
    import torch

    from swin_backbone.classification.classifier import load_classifier
    from swin_backbone.classification.preprocessing import class_folders, describe_preparation

    folders = [path for path in args.paths if class_folders(path)]
    if folders and len(args.paths) > 1:
        raise InputError(
            f'{folders[0]} has a subfolder per class, so it must be the only PATH: leave the others out, or give only '
            'folders of images.'
        )
    if args.limit and not folders:
        raise InputError('--limit is for evaluation: give a folder with one subfolder per class, or leave it out.')
    with results_only() as output:
        classifier = load_classifier(args.source, args.window_size, args.pretrained_window_sizes, args.image_size)
        names = read_names(args.names, classifier.head.out_features) if args.names else None
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        facts = f'{classifier.head.out_features} classes; images {describe_preparation(classifier.image_size)}'
        print(f'{classifier.load_report}; {facts}', file=output)
        if folders:
            print_accuracy(args, classifier, folders[0], device, output)
        elif args.paths:
            print_classes(args, classifier, names, device, output)
        if args.throughput:
            print_throughput(args, classifier, device, output)


def evaluation_options(args: Any, device: str, upright: bool) -> Any:
    """Return the evaluation options from the command line."""
    from swin_backbone.classification.evaluate import EvaluationOptions

    workers = min(4, os.cpu_count() or 1) if args.workers is None else args.workers
    return EvaluationOptions(args.batch_size, workers, device, args.bf16, upright)


def print_accuracy(args: Any, classifier: Any, folder: Path, device: str, output: TextIO) -> None:
    """Evaluate a validation set and print the scores with the published ones."""
    from swin_backbone.classification.evaluate import evaluate
    from swin_backbone.classification.preprocessing import labelled_images
    from swin_backbone.evaluation.tables import text_table
    from swin_backbone.model_zoo.classification import published_for

    items = labelled_images(folder, classifier.head.out_features)
    if args.limit and args.limit < len(items):
        items = [items[number * len(items) // args.limit] for number in range(args.limit)]
    found = evaluate(classifier, items, evaluation_options(args, device, upright=False))
    speed = f'{found.images / found.seconds:.1f}'
    rows = [('here', f'{100 * found.top1:.2f}', f'{100 * found.top5:.2f}', speed, str(found.images))]
    published = published_for(args.source) if classifier.head.out_features == IMAGENET_CLASSES else None
    if published is not None:
        rows.append(
            ('published, ImageNet-1K', f'{published.top1}', f'{published.top5}', f'{published.speed} (V100)', '50000')
        )
    print(text_table(('', 'top-1', 'top-5', 'images/s', 'images'), rows), file=output)
    if published is None:
        print(f'no published scores are known for {args.source}', file=output)


def print_classes(args: Any, classifier: Any, names: list[str] | None, device: str, output: TextIO) -> None:
    """Classify images."""
    from swin_backbone.classification.evaluate import classify
    from swin_backbone.classification.preprocessing import images_in

    items = [(file, 0) for path in args.paths for file in images_in(path)]
    started = time.perf_counter()
    for (file, _), classes in classify(classifier, items, evaluation_options(args, device, upright=True)):
        likeliest = ', '.join(f'{names[number] if names else number} {share:.1%}' for number, share in classes)
        print(f'{file}: {likeliest}', file=output)
    seconds = time.perf_counter() - started
    print(f'{len(items)} images in {seconds:.1f} s, {seconds / len(items):.3f} s each, on {device}', file=output)


def print_throughput(args: Any, classifier: Any, device: str, output: TextIO) -> None:
    """Time the classifier on random images."""
    import torch

    from swin_backbone.benchmark import throughput, timing
    from swin_backbone.model_zoo.classification import published_for

    dtype, (warm_up, rounds) = torch.bfloat16 if args.bf16 else torch.float32, ROUNDS[device]
    size, batch = classifier.image_size, args.batch_size
    facts = timing.environment(device)
    rows, failed = throughput.time_model(
        args.source, classifier.to(device), size, batch, dtype, device, warm_up, rounds
    )
    if failed:
        raise InputError(f'{args.source} cannot be timed: {failed[args.source]}.')
    speeds = [1000 * batch / ms for ms in (rows[0].median_ms, *reversed(rows[0].quartiles_ms))]
    published = published_for(args.source)
    reference = 'none was published' if published is None else f'{published.speed} on a V100 in batches of {BATCH}'
    print(
        f'{timing.describe(facts)}\nbatches of {batch} images of {size}x{size}, {str(dtype).removeprefix("torch.")}: '
        f'{speeds[0]:.1f} images/s (quartiles {speeds[1]:.1f} to {speeds[2]:.1f}); {reference}',
        file=output,
    )


def read_names(file: Path, classes: int) -> list[str]:
    """Read the class names.

    Raises:
        InputError: if the file cannot be read, or does not have one line per class.
    """
    try:
        names = file.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f'--names {file} cannot be read ({error}): give a text file.') from error
    if len(names) != classes:
        raise InputError(
            f'--names {file} has {len(names)} lines, but the checkpoint has {classes} classes: write one per line.'
        )
    return names
