"""Train each config for one step and evaluate one image, at full network size on small images."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from swin_backbone.cli import EXIT_FAILURE, Parser, results_only


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row for each trial; the exit code is 1 if one failed."""
    parser = Parser(__doc__, 'swin-backbone check-configs configs/detection/*.py --data-root data/shapes')
    parser.add_argument('configs', metavar='CONFIG', nargs='*', help='(default: all installed configs but the demos)')
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        nargs='+',
        default=[],
        help="data in COCO's or ADE20K's layout; each config is tried on every folder with its layout",
    )
    parser.add_argument('--side', type=int, default=128, metavar='N', help='image height (default: %(default)s)')
    parser.add_argument('--markdown', metavar='FILE', type=Path, help='also write a page about the trials')
    args = parser.parse_args(argv)
    with results_only() as output:
        from swin_backbone.files import find_config, write_text
        from swin_backbone.model_zoo.page import find_configs
        from swin_backbone.model_zoo.trials import COLUMNS, as_markdown, plan, try_each

        paths = [find_config(name) for name in args.configs] or find_configs()
        print(COLUMNS, file=output)
        trials = []
        for trial in try_each(plan([str(path) for path in paths], args.data_root, args.side)):
            print(trial.row(), file=output, flush=True)
            trials.append(trial)
            if args.markdown:  # after each trial, so that an interrupted run leaves its results
                command = shlex.join(['swin-backbone', 'check-configs', *(sys.argv[1:] if argv is None else argv)])
                write_text(args.markdown, as_markdown(trials, args.side, command))
        failed = sum(bool(trial.failure) for trial in trials)
        if failed:
            print(f'{failed} of {len(trials)} trials failed', file=output)
            sys.exit(EXIT_FAILURE)
