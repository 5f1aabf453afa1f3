"""Exit codes and output streams of all commands."""

import subprocess
import sys
from pathlib import Path

import pytest

from swin_backbone import cli
from swin_backbone.errors import InputError, RunStopped
from tests.conftest import REPOSITORY

PRINTING = """
import sys
from swin_backbone import cli
def main(argv):
    for number in range({lines}):
        print('line', number)
    sys.exit({code})
cli.run(main)
"""


def raising(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ('error', 'code', 'message'),
    [
        (InputError('bad.'), 2, 'error: bad.\n'),
        (KeyboardInterrupt(), 130, 'interrupted\n'),
        (RunStopped('saved.'), 75, 'saved.\n'),
        (SystemExit(7), 7, ''),
        (ValueError('oops'), 1, 'ValueError: oops'),
        # A broken pipe that is not an output stream is a failure.
        (BrokenPipeError('worker'), 1, 'BrokenPipeError: worker'),
    ],
)
def test_exit_codes(error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda argv: raising(error))
    assert stop.value.code == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(('lines', 'code'), [(2, 0), (2, 1), (100_000, 0)])
def test_a_closed_pipe_is_not_an_error(lines: int, code: int) -> None:
    command = [sys.executable, '-c', PRINTING.format(lines=lines, code=code)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ''
        assert process.wait() == cli.EXIT_CLOSED_PIPE


def test_output_of_packages_goes_to_standard_error(capsys: pytest.CaptureFixture) -> None:
    with cli.results_only() as output:
        print('Could not import something')
        print('result', file=output)
    print('after')
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ('result\nafter\n', 'Could not import something\n')


INTERRUPTED_IMPORT = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    list(range(100))
except BaseException:  # like packages that try to import optional dependencies
    pass
"""


def test_ctrl_c_during_an_import_exits_with_130(tmp_path: Path) -> None:
    (tmp_path / 'package_that_tries.py').write_text(INTERRUPTED_IMPORT)
    code = (
        f'import signal, sys; sys.path.insert(0, {str(tmp_path)!r}); from swin_backbone import cli; '
        'signal.signal(signal.SIGINT, signal.default_int_handler); '  # the parent process may ignore it
        'cli.dispatch = lambda argv: __import__("package_that_tries"); cli.main()'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (130, 'interrupted\n', '')
