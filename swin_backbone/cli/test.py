"""Evaluate a checkpoint of a detector or segmenter."""

import argparse
from collections.abc import Sequence
from typing import Any

from swin_backbone.cli import Parser
from swin_backbone.cli._options import CONFIG, add_run_options, export_local_rank, wait_for_processes
from swin_backbone.errors import InputError


def build_parser() -> Parser:
    """Build the argument parser."""
    parser = Parser(
        'Evaluate a checkpoint, and write the scores to summary.json in the work dir.',
        'swin-backbone test cascade_swin_t_3x work_dirs/cascade_swin_t_3x/epoch_36.pth\n'
        '  swin-backbone test cascade_swin_t_3x --released',
    )
    parser.add_argument('config', metavar='CONFIG', help=CONFIG)
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        nargs='?',
        help='the whole model: a path, a URL, hf-hub:OWNER/NAME, a published name, or released',
    )
    parser.add_argument(
        '--released',
        action='store_true',
        help="download and evaluate the authors' model of this config, and compare it with its published scores",
    )
    add_run_options(parser)
    parser.add_argument(
        '--tta', action='store_true', help='test at several scales with flips, and merge the predictions'
    )
    parser.add_argument(
        '--show-dir',
        metavar='DIR',
        help='write an HTML report with charts, tables and images, ground truth next to prediction',
    )
    parser.add_argument('--out', metavar='FILE', help='write the raw predictions to this .pkl file')
    parser.add_argument(
        '--format-only',
        action='store_true',
        help='skip scoring; write submission files for COCO test-dev or ADE20K to the work dir',
    )
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; ``--released`` sets ``checkpoint`` to 'released'.

    Raises:
        InputError: if neither a checkpoint nor ``--released`` is given, or both are.
    """
    args = build_parser().parse_intermixed_args(argv)  # options are allowed between config and checkpoint
    if args.released:
        if args.checkpoint not in (None, 'released'):
            raise InputError(f'checkpoint {args.checkpoint} and --released cannot be combined: leave one of them out.')
        args.checkpoint = 'released'
    if args.checkpoint is None:
        raise InputError("give a CHECKPOINT to test, or --released for the authors' model of the config.")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate a checkpoint, or write submission files."""
    args = parse(argv)
    from swin_backbone.checkpoint.find import find_file
    from swin_backbone.checkpoint.published import WEIGHTS
    from swin_backbone.engine import config as change
    from swin_backbone.engine.checkpoints import choose_source
    from swin_backbone.engine.error_explanations import explained, suggesting_config
    from swin_backbone.engine.model_check import check_model
    from swin_backbone.engine.option_check import require_test
    from swin_backbone.engine.test import run_test
    from swin_backbone.engine.tta import use_tta

    source = choose_source(args.checkpoint, args.config)
    export_local_rank(args)
    config = change.load_config(args.config, args.cfg_options)
    with explained(config), suggesting_config(source):
        require_test(config)
        submission = set_options(config, args)
        change.use_own_types(config)
        check_model(config, ('test_dataloader',))
        views = use_tta(config) if args.tta else 1
        config.load_from = str(find_file(source))
        run_test(config, views, args.show_dir, submission, WEIGHTS.get(source))
    wait_for_processes()


def set_options(config: Any, args: argparse.Namespace) -> Any:
    """Apply the options to a config, and check config and data.

    Returns:
        The submission to write, or None.

    Raises:
        InputError: if an option, the config or the data are invalid.
    """
    from swin_backbone.engine import config as change
    from swin_backbone.engine.class_check import check_classes, check_ground_truth
    from swin_backbone.engine.data_check import check_files
    from swin_backbone.engine.option_check import check_ranges
    from swin_backbone.engine.own_data import choose_data, own_data
    from swin_backbone.engine.path_check import check_writable
    from swin_backbone.engine.submission import format_for_server
    from swin_backbone.engine.type_check import check_types

    check_ranges(config)
    check_types(config)
    change.set_work_dir(config, args.work_dir, args.config)
    if args.show_dir:
        check_writable(args.show_dir, '--show-dir')
    own = own_data(args.dataset, None, args.val_ann, args.data_root)
    choose_data(config, own, ('val',), args.data_root, args.classes, args.no_masks)
    submission = format_for_server(config, f'{config.work_dir}/submission') if args.format_only else None
    change.check_data(config, ('test_dataloader',))
    check_files(config, ('test_dataloader',), args.data_check)
    check_classes(config, ('test_dataloader',))
    if submission is None:
        check_ground_truth(config, 'test_dataloader', 'test_evaluator')
    change.set_launcher(config, args.launcher)
    config.pop('strategy', None)  # only for training
    change.set_weights(config, 'none')
    if args.out:
        change.keep_predictions(config, args.out)
    return submission
