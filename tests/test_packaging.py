"""Metadata, the setup script and the make targets; `make wheel` tests the wheel itself."""

import ast
import os
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

import swin_backbone
from swin_backbone.doctor import FAMILIES
from tests.conftest import REPOSITORY

ROOT = REPOSITORY
SETUP = ROOT / 'scripts' / 'setup.sh'


@pytest.fixture(scope='module')
def project() -> dict[str, Any]:
    tomllib = pytest.importorskip('tomllib')  # Python 3.11
    return tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


def name_of(requirement: str) -> str:
    return re.split(r'[=<>;\[ ]', requirement)[0]


def test_core_dependencies_are_few_and_unpinned(project: dict[str, Any]) -> None:
    assert {name_of(requirement) for requirement in project['dependencies']} == {'torch', 'numpy', 'safetensors'}
    assert not any('<' in requirement or '==' in requirement for requirement in project['dependencies'])


@pytest.mark.parametrize(('extra', 'family'), [('openmmlab', 'open-mmlab'), ('onedl', 'onedl')])
def test_doctor_requires_the_packages_of_the_extras(project: dict[str, Any], extra: str, family: str) -> None:
    # mmcv-lite requires another mmengine than the forks, so the extra of the forks cannot list mmcv-lite.
    wanted = {value for module, value in FAMILIES[family].items() if (extra, module) != ('onedl', 'mmcv')}
    assert wanted <= set(project['optional-dependencies'][extra])


@pytest.mark.parametrize('family', FAMILIES)
def test_setup_installs_the_mmcv_that_the_doctor_names(family: str) -> None:
    assert FAMILIES[family]['mmcv'] in SETUP.read_text() + (ROOT / 'pyproject.toml').read_text()


def test_version_is_read_without_importing() -> None:
    tree = ast.parse((ROOT / 'swin_backbone' / '__init__.py').read_text())
    values = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [getattr(target, 'id', '') for target in node.targets] == ['__version__']
    ]
    assert values == [swin_backbone.__version__]


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / 'swin_backbone').rglob('*.py')}
    assert [folder for folder in folders if not (folder / '__init__.py').is_file()] == []


def test_import_loads_no_toolkit() -> None:
    probe = (
        'import sys, swin_backbone; '
        "print(sorted({'mmcv', 'mmdet', 'mmengine', 'mmseg', 'matplotlib', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, '-c', probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


@pytest.mark.parametrize(
    ('variable', 'value', 'choices'), [('STACK', 'mmlab', 'openmmlab or onedl'), ('MMCV', 'full', 'lite or compiled')]
)
def test_setup_rejects_unknown_values(variable: str, value: str, choices: str) -> None:
    done = subprocess.run([SETUP], env={**os.environ, variable: value}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: unknown {variable} '{value}': use {choices}.\n"


@pytest.mark.skipif(shutil.which('make') is None, reason='make is not installed')
@pytest.mark.parametrize(('stack', 'folder'), [('openmmlab', '.venv'), ('onedl', '.venv-onedl')])
def test_stack_selects_the_environment(stack: str, folder: str) -> None:
    command = ['make', '--dry-run', '--no-print-directory', 'test', 'demo', 'bench', 'wheel', 'lint', 'types']
    variables = {key: value for key, value in os.environ.items() if key not in ('MAKEFLAGS', 'MAKELEVEL', 'VENV')}
    done = subprocess.run(
        command, cwd=ROOT, env={**variables, 'STACK': stack}, capture_output=True, text=True, check=True
    )
    used = set(re.findall(r'(\S+)/bin/python', done.stdout))
    assert {value.removeprefix('PYTHON=') for value in used} == {folder}
