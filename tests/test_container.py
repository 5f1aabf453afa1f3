"""The Dockerfile: copied files exist and are not ignored, and its arguments are those of scripts/setup.sh."""

import json
import re
from fnmatch import fnmatch
from typing import Any

import pytest

from tests.conftest import REPOSITORY

LINES = [
    line
    for line in (REPOSITORY / 'Dockerfile').read_text().replace('\\\n', ' ').splitlines()
    if line and not line.startswith('#')
]
SETUP = (REPOSITORY / 'scripts' / 'setup.sh').read_text()


def arguments(instruction: str) -> list[str]:
    """Return the arguments of every occurrence of an instruction."""
    return [line.partition(' ')[2] for line in LINES if line.split()[0] == instruction]


def copied() -> list[str]:
    return [source for words in map(str.split, arguments('COPY')) for source in words[:-1]]


@pytest.fixture(scope='module')
def project() -> dict[str, Any]:
    tomllib = pytest.importorskip('tomllib')  # Python 3.11
    return tomllib.loads((REPOSITORY / 'pyproject.toml').read_text())


def test_dockerfile_has_only_known_instructions() -> None:
    known = {'FROM', 'RUN', 'ARG', 'ENV', 'WORKDIR', 'COPY', 'ENTRYPOINT', 'CMD'}
    assert {line.split()[0] for line in LINES} <= known and LINES[0].startswith('FROM ')


@pytest.mark.parametrize('source', copied())
def test_copied_files_exist_and_are_not_ignored(source: str) -> None:
    assert (REPOSITORY / source).exists()
    rules = [line for line in (REPOSITORY / '.dockerignore').read_text().splitlines() if line and line[0] != '#']
    ignored = False
    for rule in rules:  # the last matching rule applies
        if fnmatch(source, rule.removeprefix('!')):
            ignored = not rule.startswith('!')
    assert not ignored


def test_files_needed_to_build_are_copied_before_setup(project: dict[str, Any]) -> None:
    build = project['tool']['hatch']['build']['targets']['wheel']
    meta = project['project']
    needed = {'pyproject.toml', 'scripts', meta['readme'], *meta['license-files'], *build['packages']}
    needed |= set(build['force-include'])
    setup = next(number for number, line in enumerate(LINES) if 'scripts/setup.sh' in line)
    before = {word for line in LINES[:setup] if line.startswith('COPY') for word in line.split()[1:-1]}
    assert needed <= before


def test_arguments_are_those_of_the_setup_script() -> None:
    call = next(line for line in arguments('RUN') if line.endswith('scripts/setup.sh'))
    passed = set(re.findall(r'(\w+)=\$', call))
    assert passed == {name.partition('=')[0] for name in arguments('ARG')} == {'STACK', 'TORCH_INDEX_URL'}
    environment = {name for line in arguments('ENV') for name in re.findall(r'(?:^| )(\w+)=', line)}
    assert 'VENV' in environment
    assert all(f'{name}=${{{name}:-' in SETUP for name in passed | {'VENV'})


def test_the_container_has_the_compiler_of_triton_only() -> None:
    """The installation compiles nothing, but Triton needs gcc and the headers of the C library at run time."""
    installed = ' '.join(re.findall(r'apt-get install (.*?) &&', ' '.join(arguments('RUN')))).split()
    assert {'gcc', 'libc6-dev'} <= set(installed)
    assert not re.search(r'g\+\+|build-essential|cuda', ' '.join(installed))


def test_entrypoint_is_the_console_script(project: dict[str, Any]) -> None:
    assert json.loads(arguments('ENTRYPOINT')[0])[0] in project['project']['scripts']
