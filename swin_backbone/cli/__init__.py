"""The console script ``swin-backbone COMMAND`` and what all commands share: exit codes, errors and clean output.

A command is a module of this package with a ``main(argv)``. Before one runs, only the standard library is imported.
"""

import argparse
import difflib
import os
import re
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn, TextIO

from swin_backbone.errors import InputError, RunFailure, RunStopped

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_STOPPED = 75
"""A run that a signal ended and that has saved its state: EX_TEMPFAIL of sysexits.h, try again later."""
EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141
"""What a shell reports for a command that SIGPIPE ended: its reader, such as `head`, has left."""

NEEDED = ('torch', 'numpy', 'safetensors', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'torchvision', 'cv2', 'pycocotools')
"""Packages whose absence means another interpreter than the one that the project was installed for."""


COMMANDS = {
    'train': 'train a detector or segmenter from a config',
    'test': 'evaluate a checkpoint, at one scale or several',
    'predict': 'predict images: drawings and JSON',
    'classify': 'evaluate a classifier on ImageNet, or classify images',
    'export': 'write a backbone or a whole model as an ONNX file or a PyTorch program',
    'convert': "write a backbone's weights in another implementation's layout",
    'complexity': 'count parameters and multiply-adds beside the published numbers',
    'benchmark': 'measure speed against other implementations',
    'ablate': "run the ablations of the Swin paper's Tables 4, 5 and 6",
    'prepare-data': 'generate, check or download a data set',
    'visualize': 'draw feature energy and window attention of an image',
    'check-configs': 'train each config for one step and evaluate one image',
    'configs': 'list the configs that are installed with the package',
    'doctor': 'report installed versions, incompatibilities, and the command that fixes each',
}


def usage() -> str:
    """The text of ``swin-backbone --help``."""
    lines = [f'  {name:<15}{summary}' for name, summary in COMMANDS.items()]
    return '\n'.join(
        [
            'usage: swin-backbone COMMAND [OPTION ...]',
            '',
            'commands:',
            *lines,
            '',
            '`swin-backbone COMMAND --help` shows the options of a command. A CONFIG is a path, or the name of an',
            'installed config such as cascade_swin_t_3x.',
        ]
    )


def main(command: str | None = None) -> NoReturn:
    """Run a command with the arguments of the process; without ``command``, its name is the first argument."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # `nohup` and `&` ignore it
        signal.signal(signal.SIGINT, interrupt)
    arguments = sys.argv[1:]
    run(dispatch, arguments if command is None else [command, *arguments])


def interrupt(number: int, frame: FrameType | None) -> None:
    """Answer Ctrl-C: end at once while modules are imported, which may swallow or repeat an exception.

    Raises:
        KeyboardInterrupt: nothing is being imported.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith('<frozen importlib'):
            os.write(2, b'interrupted\n')
            os._exit(EXIT_INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def dispatch(argv: Sequence[str] | None) -> None:
    """Run the command that the first argument names.

    Raises:
        InputError: there is no such command.
    """
    name, rest = (argv[0], argv[1:]) if argv else ('--help', [])
    if name in ('-h', '--help'):
        print(usage())
    elif name == '--version':
        from swin_backbone import __version__

        print(__version__)
    elif name in COMMANDS:
        import_module(f'{__name__}.{name.replace("-", "_")}').main(rest)
    else:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f'did you mean {close[0]!r}?' if close else f'use one of {", ".join(COMMANDS)}.'
        raise InputError(f'swin-backbone has no command {name!r}: {hint}')


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, without the usage block above it."""

    def __init__(self, description: str, example: str, **options: Any) -> None:
        options.setdefault('prog', ' '.join(example.split()[:2]))
        super().__init__(
            description=description,
            epilog=f'example:\n  {example}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,  # a sub-command's parser is given its `prog`
        )

    def error(self, message: str) -> NoReturn:
        """End with the message alone; the usage block would bury it."""
        self.exit(EXIT_USAGE, f'error: {self.prog}: {message}{self.hint(message)}. See {self.prog} --help.\n')

    def hint(self, message: str) -> str:
        """What an option that is not known may mean."""
        unknown = message.removeprefix('unrecognized arguments: ').split('=')[0].split()
        if not message.startswith('unrecognized') or not unknown:
            return ''
        options = re.findall(r'--[\w-]+', self.format_usage())
        close = difflib.get_close_matches(unknown[0], options, n=1)
        if close:
            return f': did you mean {close[0]}?'
        return ': values of the config are set with --cfg-options KEY=VALUE' if '--cfg-options' in options else ''


@contextmanager
def results_only() -> Iterator[TextIO]:
    """Standard output for a command's results alone; whatever packages print meanwhile goes to standard error."""
    output = sys.stdout
    with redirect_stdout(sys.stderr):
        yield output


def run(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``main(argv)`` and end the process with the project's exit codes.

    0 on success, 2 with one sentence for an :class:`~swin_backbone.errors.InputError`, 1 for any other failure, with a
    traceback unless it is a :class:`~swin_backbone.errors.RunFailure`, 75 for a run that a signal stopped and that can
    go on, 130 when interrupted, 141 without a word when nobody reads the output any more.
    """
    # Raised inside the toolkits at import; a user's error must be the only thing on standard error.
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    code = outcome(main, argv)
    if code == EXIT_INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C must not disturb what ends now
    sys.exit(EXIT_CLOSED_PIPE if flush() else code)


def outcome(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None) -> Any:
    """The exit code of ``main(argv)``, after printing its error, if any."""
    try:
        main(argv)
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return EXIT_USAGE
    except RunFailure as error:
        print(f'error: {error}', file=sys.stderr)
        return EXIT_FAILURE
    except RunStopped as stop:
        print(stop, file=sys.stderr)
        return EXIT_STOPPED
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:
        return stop.code
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            traceback.print_exc()
        else:
            print(f'error: {missing_package(str(error.name))}', file=sys.stderr)
        return EXIT_FAILURE
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_left():
            return EXIT_CLOSED_PIPE
        traceback.print_exc()
        return EXIT_FAILURE
    return 0


def missing_package(name: str) -> str:
    """What to do where a package that commands need is not installed."""
    from swin_backbone.doctor import activation, environment

    place = environment()
    remedy = (
        f'activate the environment: {activation(place)}' if place else '`swin-backbone doctor` says how to install it'
    )
    return f'{name} is not installed for {sys.executable}: {remedy}.'


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
