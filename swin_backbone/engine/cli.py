"""What every command line of the project shares: its exit codes and the shape of its errors."""

import argparse
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from swin_backbone.errors import InputError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, without the usage block above it."""

    def __init__(self, description: str, example: str, **options: Any) -> None:
        super().__init__(
            description=description,
            epilog=f'example:\n  {example}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,  # a sub-command's parser is given its `prog`
        )

    def error(self, message: str) -> NoReturn:
        """End with the message alone; the usage block would bury it."""
        self.exit(EXIT_USAGE, f'error: {self.prog}: {message}. See {self.prog} --help.\n')


def run(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``main(argv)`` and end the process with the project's exit codes.

    0 on success, 2 with one sentence for an :class:`~swin_backbone.errors.InputError`, 1 with a traceback for any other
    failure, 130 when interrupted.
    """
    # Raised inside the toolkits at import; a user's error must be the only thing on standard error.
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    try:
        main(argv)
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except Exception:
        traceback.print_exc()
        sys.exit(EXIT_FAILURE)
    sys.exit(0)
