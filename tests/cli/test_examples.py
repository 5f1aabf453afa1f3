"""The examples in the help text of every command are valid."""

import argparse
import io
import shlex
from contextlib import redirect_stdout
from importlib import import_module
from typing import Any

import pytest

from swin_backbone.cli import COMMANDS
from swin_backbone.files import find_config


class ParsedError(Exception):
    """Raised to stop a command after its arguments are parsed."""


def main_of(command: str) -> Any:
    return import_module(f'swin_backbone.cli.{command.replace("-", "_")}').main


def examples(command: str) -> list[str]:
    text = io.StringIO()
    with redirect_stdout(text), pytest.raises(SystemExit):
        main_of(command)(['--help'])
    return [
        line.strip() for line in text.getvalue().splitlines() if line.strip().startswith(f'swin-backbone {command}')
    ]


@pytest.mark.parametrize('command', COMMANDS)
def test_help_examples_are_accepted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = examples(command)
    assert lines
    parsed = []

    def accepting(parse: Any) -> Any:
        def accept(parser: argparse.ArgumentParser, *arguments: Any) -> None:
            parsed.append(parse(parser, *arguments))
            raise ParsedError

        return accept

    for name in ('parse_args', 'parse_intermixed_args'):
        monkeypatch.setattr(argparse.ArgumentParser, name, accepting(getattr(argparse.ArgumentParser, name)))
    for line in lines:
        with pytest.raises(ParsedError):
            main_of(command)(shlex.split(line, comments=True)[2:])
        config = getattr(parsed[-1], 'config', None)
        assert not isinstance(config, str) or find_config(config)
