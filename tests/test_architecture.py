"""The layers of docs/architecture.md: imports only from lower layers, no cycles, and no toolkits in the core."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / 'swin_backbone'
LAYERS = (
    'cli',
    'ablations',
    'benchmark',
    'model_zoo',
    'inspection',
    'doctor',
    'engine',
    'evaluation',
    'replace',
    'openmmlab',
    'registry',
    'mmcv_ops',
    'toolkit_imports',
    'adapters',
    'export',
    'classification',
    'datasets',
    'backbones',
    'checkpoint',
    'attention',
    'variants',
    'files',
    'errors',
)
"""From top to bottom: a module imports only modules of its own layer or of lower ones."""

TORCH_ALONE = ('backbones', 'checkpoint', 'attention', 'variants', 'files', 'errors', 'datasets')
TOOLKITS = {'mmengine', 'mmcv', 'mmdet', 'mmseg'}


def modules() -> dict[str, Path]:
    """Return every module by its dotted name inside the package; the package itself is ''."""
    found = {}
    for path in PACKAGE.rglob('*.py'):
        parts = path.relative_to(PACKAGE).with_suffix('').parts
        found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


MODULES = modules()


def imported(path: Path, top_level: bool = False) -> Iterator[str]:
    """Yield the modules of the package that a file imports, also inside functions unless ``top_level``."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        else:
            continue
        for name in names:
            inside = name.removeprefix('swin_backbone').lstrip('.') if name.startswith('swin_backbone') else None
            while inside and inside not in MODULES:  # a name inside a module
                inside = inside.rpartition('.')[0]
            if inside:
                yield inside


def layer(module: str) -> int:
    return LAYERS.index(module.partition('.')[0])


def test_every_module_has_a_layer() -> None:
    assert {module.partition('.')[0] for module in MODULES if module} <= set(LAYERS)


@pytest.mark.parametrize('module', sorted(filter(None, MODULES)))
def test_imports_point_down(module: str) -> None:
    upward = {other for other in imported(MODULES[module]) if layer(other) < layer(module)}
    assert not upward, f'{module} is below {sorted(upward)}'


def test_imports_have_no_cycles() -> None:
    graph = {module: {o for o in imported(path, True) if o != module} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f'import cycle: {" -> ".join((*path[path.index(module) :], module))}'
        if module not in done:
            for other in graph[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_core_imports_no_toolkit() -> None:
    optional = {'attention.kernels.triton'} if find_spec('triton') is None else set()
    names = [f'swin_backbone.{m}' for m in set(MODULES) - optional if m.partition('.')[0] in TORCH_ALONE]
    names += ['swin_backbone']
    code = f'import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n'
    code += f'print({TOOLKITS!r} & set(sys.modules))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == 'set()\n'


def test_test_folders_mirror_the_package() -> None:
    folders = {
        path.parent.relative_to(REPOSITORY / 'tests').parts for path in (REPOSITORY / 'tests').rglob('test_*.py')
    }
    assert {parts[0] for parts in folders if parts} <= set(LAYERS)
