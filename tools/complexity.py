"""Count parameters and multiply-adds of configs as the papers count them, beside the papers' figures."""

import json
from collections.abc import Sequence
from pathlib import Path

from swin_backbone.engine.cli import Parser, results_only, run


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__, 'tools/complexity.py configs/detection/cascade_swin_t_3x.py --shape 800 1280')
    parser.add_argument('configs', metavar='CONFIG', nargs='*', help='config files (all of configs/ if none are named)')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help="pixels of the picture (the papers': 800 1280 for detectors, 512 2048 or 640 2560 for segmenters)",
    )
    parser.add_argument('--json', action='store_true', help='print plain numbers')
    parser.add_argument('--markdown', metavar='FILE', type=Path, help='write a page about the configs instead')
    args = parser.parse_args(argv)
    with results_only() as output:
        from swin_backbone.reports import model_zoo

        paths = [Path(path) for path in args.configs] or model_zoo.find_configs(Path('configs'))
        entries = [model_zoo.make_entry(path, args.shape and (args.shape[0], args.shape[1])) for path in paths]
        if args.markdown:
            args.markdown.write_text(model_zoo.as_markdown(entries, args.markdown.parent))
        elif args.json:
            print(json.dumps([model_zoo.as_dict(entry) for entry in entries], indent=2), file=output)
        else:
            print(model_zoo.as_text(entries), file=output)


if __name__ == '__main__':
    run(main)
