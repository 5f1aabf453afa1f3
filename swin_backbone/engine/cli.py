"""What every command line of the project shares: its exit codes, the shape of its errors, and clean output."""

import argparse
import os
import select
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, NoReturn, TextIO

from swin_backbone.errors import InputError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141
"""What a shell reports for a command that SIGPIPE ended: its reader, such as `head`, has left."""


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


@contextmanager
def results_only() -> Iterator[TextIO]:
    """Standard output for a command's results alone; whatever packages print meanwhile goes to standard error."""
    output = sys.stdout
    with redirect_stdout(sys.stderr):
        yield output


def run(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``main(argv)`` and end the process with the project's exit codes.

    0 on success, 2 with one sentence for an :class:`~swin_backbone.errors.InputError`, 1 with a traceback for any other
    failure, 130 when interrupted, 141 without a word when nobody reads the output any more.
    """
    # Raised inside the toolkits at import; a user's error must be the only thing on standard error.
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    code = outcome(main, argv)
    sys.exit(EXIT_CLOSED_PIPE if flush() else code)


def outcome(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None) -> Any:
    """The exit code of ``main(argv)``, once its error, if any, has been told."""
    try:
        main(argv)
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:
        return stop.code
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_left():
            return EXIT_CLOSED_PIPE
        traceback.print_exc()
        return EXIT_FAILURE
    return 0


def reader_left() -> bool:
    """Whether standard output or standard error is a pipe that nobody reads any more."""
    poller = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # no stream of the system's, or none at all
            poller.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))


def flush() -> bool:
    """Write what is still held back; whether nobody was there to read it.

    Such a stream leads nowhere from now on, else Python would complain about the rest while it shuts down.
    """
    lost = False
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            lost = True
    return lost
