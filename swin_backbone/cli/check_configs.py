"""Try configs: a training step and an evaluated picture each, full size networks on shrunken pictures."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from swin_backbone.cli import EXIT_FAILURE, Parser, results_only


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row for each trial; the exit code is 1 if one failed."""
    parser = Parser(__doc__, 'swin-backbone check-configs configs/detection/*.py --data-root data/shapes')
    parser.add_argument('configs', metavar='CONFIG', nargs='*', help='config files (if none are named, all but demos)')
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        nargs='+',
        default=[],
        help="where the data are, in COCO's or ADE20K's layout; a config is tried on every folder that suits it",
    )
    parser.add_argument('--side', type=int, default=128, metavar='N', help='height of the pictures (%(default)s)')
    parser.add_argument('--markdown', metavar='FILE', type=Path, help='write a page about the trials too')
    args = parser.parse_args(argv)
    with results_only() as output:
        from swin_backbone.model_zoo.page import find_configs
        from swin_backbone.model_zoo.trials import HEADING, plan, try_each
        from swin_backbone.model_zoo.trials_page import as_markdown

        paths = args.configs or [str(path) for path in find_configs()]
        print(HEADING, file=output)
        trials = []
        for trial in try_each(plan(paths, args.data_root, args.side)):
            print(trial.row(), file=output, flush=True)
            trials.append(trial)
            if args.markdown:  # as it goes, so that an interrupted run leaves what it found
                command = shlex.join(['swin-backbone', 'check-configs', *(sys.argv[1:] if argv is None else argv)])
                args.markdown.write_text(as_markdown(trials, args.side, command))
        failed = sum(bool(trial.failure) for trial in trials)
        if failed:
            print(f'{failed} of {len(trials)} trials failed', file=output)
            sys.exit(EXIT_FAILURE)
