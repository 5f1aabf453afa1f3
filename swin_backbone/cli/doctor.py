"""Report installed versions and incompatibilities; requires only the standard library, because torch may be missing."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from swin_backbone import doctor
from swin_backbone.cli import EXIT_FAILURE, Parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results, and exit with code 1 if there is a problem."""
    parser = Parser(
        'Report installed versions, incompatibilities, and the command that fixes each.', 'swin-backbone doctor --json'
    )
    parser.add_argument('--json', action='store_true', help='print a list of {name, status, detail, remedy}')
    args = parser.parse_args(argv)
    found = doctor.diagnose()
    print(json.dumps([asdict(diagnosis) for diagnosis in found], indent=2) if args.json else doctor.table(found))
    if any(diagnosis.status == doctor.FAIL for diagnosis in found):
        sys.exit(EXIT_FAILURE)
