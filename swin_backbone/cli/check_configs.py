"""Train each config for one step and evaluate one image, at full network size on small images."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from swin_backbone.cli import EXIT_FAILURE, Parser, results_only
from swin_backbone.errors import InputError


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row for each trial, and exit with code 1 if one failed."""
    parser = Parser(__doc__, 'swin-backbone check-configs configs/detection/*.py --data-root data/shapes')
    parser.add_argument(
        'configs', metavar='CONFIG', nargs='*', help='configs (default: all installed ones except demos)'
    )
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        nargs='+',
        default=[],
        help='data in the layout of COCO or ADE20K; each config is tried on every folder with its layout',
    )
    parser.add_argument('--side', type=int, default=128, metavar='N', help='image height (default: %(default)s)')
    parser.add_argument('--markdown', metavar='FILE', type=Path, help='also write the results as a Markdown page')
    parser.add_argument(
        '--toolkits',
        action='store_true',
        help="compare MMSwinTransformer with the toolkits' class on all their Swin configs instead; --markdown updates "
        'the results in docs/compatibility.md',
    )
    args = parser.parse_args(argv)
    if args.toolkits:
        if args.configs or args.data_root:
            raise InputError('--toolkits compares all configs of the toolkits: leave CONFIG and --data-root out.')
        compare_toolkits(args.markdown)
        return
    with results_only() as output:
        from swin_backbone.files import find_config, write_text
        from swin_backbone.model_zoo.config_trials import COLUMNS, as_markdown, plan, try_each
        from swin_backbone.model_zoo.page import find_configs

        paths = [find_config(name) for name in args.configs] or find_configs()
        print(COLUMNS, file=output)
        trials = []
        for trial in try_each(plan([str(path) for path in paths], args.data_root, args.side)):
            print(trial.row(), file=output, flush=True)
            trials.append(trial)
            if args.markdown:  # after each trial, so that an interrupted run keeps its results
                command = shlex.join(['swin-backbone', 'check-configs', *(sys.argv[1:] if argv is None else argv)])
                write_text(args.markdown, as_markdown(trials, args.side, command))
        failed = sum(bool(trial.failure) for trial in trials)
        if failed:
            print(f'{failed} of {len(trials)} trials failed', file=output)
            sys.exit(EXIT_FAILURE)


def compare_toolkits(page: Path | None) -> None:
    """Print a row for each backbone and family of the toolkits' configs, and exit with code 1 if one differs."""
    with results_only() as output:
        from swin_backbone.files import write_text
        from swin_backbone.model_zoo import toolkit_backbones, toolkit_models

        comparisons, pairs = [], []
        print(toolkit_backbones.COLUMNS, file=output)
        for comparison in toolkit_backbones.compare_all():
            print(comparison.row(), file=output, flush=True)
            comparisons.append(comparison)
        print(f'{toolkit_backbones.summary(comparisons)}\n\n{toolkit_models.COLUMNS}', file=output)
        for pair in toolkit_models.compare_families():
            print(pair.row(), file=output, flush=True)
            pairs.append(pair)
        print(toolkit_models.summary(pairs), file=output)
        if page is not None:
            before = page.read_text(encoding='utf-8') if page.is_file() else ''
            section = toolkit_backbones.as_markdown(comparisons, 'swin-backbone check-configs --toolkits')
            write_text(page, toolkit_backbones.put_into(before, f'{section}\n{toolkit_models.as_markdown(pairs)}'))
    if not (all(one.passed for one in comparisons) and all(one.passed for one in pairs)):
        sys.exit(EXIT_FAILURE)
