"""List the installed configs."""

import ast
import json
from collections.abc import Sequence

from swin_backbone.cli import Parser
from swin_backbone.files import installed_configs


def main(argv: Sequence[str] | None = None) -> None:
    """Print the name and title of each installed config; with ``--json``, also its path."""
    parser = Parser('List the configs that are installed with the package.', 'swin-backbone configs')
    parser.add_argument('--json', action='store_true', help='print a list of {name, title, path}')
    args = parser.parse_args(argv)
    rows = []
    for name, path in installed_configs().items():
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ''
        rows.append({'name': name, 'title': docstring.partition('\n')[0].rstrip('.'), 'path': str(path)})
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    width = max((len(row['name']) for row in rows), default=0)
    for row in rows:
        print(f'{row["name"]:<{width}}  {row["title"]}')
