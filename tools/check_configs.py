"""Try configs: a training step and an evaluated picture each, full size networks on shrunken pictures."""

import sys
from collections.abc import Sequence
from pathlib import Path

from swin_backbone.engine.cli import EXIT_FAILURE, Parser, run


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__, 'tools/check_configs.py configs/detection/*.py --data-root data/shapes')
    parser.add_argument('configs', metavar='CONFIG', nargs='*', help='config files (all of configs/ if none are named)')
    parser.add_argument('--data-root', metavar='DIR', help="where the data are, in COCO's or ADE20K's layout")
    parser.add_argument('--side', type=int, default=128, metavar='N', help='height of the pictures (%(default)s)')
    args = parser.parse_args(argv)
    from swin_backbone.engine.smoke import HEADING, try_each
    from swin_backbone.reports.model_zoo import find_configs

    paths = args.configs or [str(path) for path in find_configs(Path('configs'))]
    print(HEADING)
    failed = 0
    for trial in try_each(paths, args.data_root, args.side):
        print(trial.row(), flush=True)
        failed += bool(trial.failure)
    if failed:
        print(f'{failed} of {len(paths)} configs failed')
        sys.exit(EXIT_FAILURE)


if __name__ == '__main__':
    run(main)
