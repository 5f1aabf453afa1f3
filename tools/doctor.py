"""Say what is installed, what fits together, and the command that mends what does not."""

import sys
from pathlib import Path
from types import ModuleType


def main() -> None:
    """Run the doctor without the package's ``__init__``, which needs torch: torch may be what is missing."""
    bare = ModuleType('swin_backbone')
    bare.__path__ = [str(Path(__file__).resolve().parents[1] / 'swin_backbone')]
    sys.modules['swin_backbone'] = bare
    from swin_backbone.engine import cli, doctor

    del sys.modules['swin_backbone']  # so that the checks find the installed one
    cli.run(doctor.main)


if __name__ == '__main__':
    main()
