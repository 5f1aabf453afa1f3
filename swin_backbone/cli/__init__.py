"""The console script ``swin-backbone COMMAND``, with exit codes, error messages and output handling of all commands.

A command is a module of this package with a ``main(argv)``. Before it runs, only the standard library is imported.
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
"""Exit code of a run that was stopped by a signal after saving its state: EX_TEMPFAIL of sysexits.h."""
EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141
"""Exit code that a shell reports for a command ended by SIGPIPE, because its reader, such as `head`, has exited."""

NEEDED = ('torch', 'numpy', 'safetensors', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'torchvision', 'cv2', 'pycocotools')
"""Packages whose absence suggests that the wrong Python interpreter is used."""


COMMANDS = {
    'train': 'train a detector, segmenter or classifier from a config',
    'test': 'evaluate a checkpoint at one scale or several',
    'predict': 'predict images and videos; write drawings and JSON',
    'classify': 'evaluate a classifier on ImageNet, or classify images',
    'export': 'export a backbone or a whole model to ONNX or torch.export',
    'convert': 'convert the weights of a backbone to the layout of another implementation',
    'complexity': 'count parameters and multiply-adds, and compare them with the published numbers',
    'benchmark': 'measure speed against other implementations',
    'ablate': 'run the ablations of the Swin and Swin V2 papers',
    'prepare-data': 'download, check, generate, convert or split a data set',
    'visualize': 'draw feature energy and window attention of an image',
    'check-configs': 'train each config for one step and evaluate one image',
    'configs': 'list the configs that are installed with the package',
    'doctor': 'report installed versions, incompatibilities, and the command that fixes each',
}


def usage() -> str:
    """Return the text of ``swin-backbone --help``."""
    lines = [f'  {name:<15}{summary}' for name, summary in COMMANDS.items()]
    return '\n'.join(
        [
            'usage: swin-backbone COMMAND [OPTION ...]',
            '',
            'commands:',
            *lines,
            '',
            '`swin-backbone COMMAND --help` shows the options of a command, and `swin-backbone --version` the version.',
            'CONFIG is a path or the name of an installed config, such as cascade_swin_t_3x.',
        ]
    )


def main(command: str | None = None) -> NoReturn:
    """Run a command with the arguments of the process; by default, the first argument is its name."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # `nohup` and `&` ignore it
        signal.signal(signal.SIGINT, interrupt)
    arguments = sys.argv[1:]
    run(dispatch, arguments if command is None else [command, *arguments])


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C: exit immediately during imports, which may swallow or repeat an exception.

    Raises:
        KeyboardInterrupt: if no module is being imported.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith('<frozen importlib'):
            os.write(2, b'interrupted\n')
            os._exit(EXIT_INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def dispatch(argv: Sequence[str] | None) -> None:
    """Run the command given by the first argument.

    Raises:
        InputError: if there is no such command.
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
    """Argument parser whose errors are one sentence without a usage block."""

    def __init__(self, description: str, example: str, **options: Any) -> None:
        options.setdefault('prog', ' '.join(example.split()[:2]))
        super().__init__(
            description=description,
            epilog=f'example:\n  {example}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,  # argparse passes `prog` to the parsers of sub-commands
        )

    def error(self, message: str) -> NoReturn:
        """Exit with the message only, without the usage block."""
        self.exit(EXIT_USAGE, f'error: {self.prog}: {message}{self.hint(message)}. See {self.prog} --help.\n')

    def hint(self, message: str) -> str:
        """Return a suggestion for an unknown option."""
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
    """Reserve standard output for the results of a command; other output is redirected to standard error."""
    output = sys.stdout
    with redirect_stdout(sys.stderr):
        yield output


def run(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``main(argv)`` and end the process with the project's exit codes.

    0: success; 1: failure, with a traceback unless it is a :class:`~swin_backbone.errors.RunFailure`; 2: an
    :class:`~swin_backbone.errors.InputError`, with one sentence; 75: stopped by a signal, can be resumed; 130:
    interrupted; 141: the reader of the output has exited, without a message.
    """
    # Raised when the toolkits are imported; error messages should be the only output on standard error.
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    code = outcome(main, argv)
    if code == EXIT_INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the shutdown
    sys.exit(EXIT_CLOSED_PIPE if flush() else code)


def outcome(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None) -> Any:
    """Run ``main(argv)``, print its error, if any, and return the exit code."""
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
        if isinstance(error, BrokenPipeError) and reader_exited():
            return EXIT_CLOSED_PIPE
        traceback.print_exc()
        return EXIT_FAILURE
    return 0


def missing_package(name: str) -> str:
    """Return the message for a required package that is not installed."""
    from swin_backbone.doctor import activation, environment

    place = environment()
    remedy = (
        f'activate the environment: {activation(place)}' if place else '`swin-backbone doctor` shows how to install it'
    )
    return f'{name} is not installed for {sys.executable}: {remedy}.'


def reader_exited() -> bool:
    """Return whether standard output or standard error is a pipe whose reader has exited."""
    poller = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # the stream has no file descriptor, or is None
            poller.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))


def flush() -> bool:
    """Flush the output streams, and return whether the reader of one has exited.

    Such a stream is redirected to the null device, because Python would otherwise print an error at shutdown.
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
