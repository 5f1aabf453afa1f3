"""The doctor in simulated environments: the interpreter can import only a folder of stub packages."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swin_backbone import cli, doctor
from tests.conftest import REPOSITORY

TOOL = REPOSITORY / 'tools' / 'doctor.py'
TORCH = """
__version__ = {version!r}
class cuda:
    is_available = staticmethod(lambda: {gpu})
    get_device_name = staticmethod(lambda: 'some GPU')
class version:
    cuda = {cuda!r}
def tensor(values, device='cpu'):
    return device
"""
NMS = """
class Kept:
    tolist = staticmethod(lambda: {kept})
def nms(boxes, scores, threshold):
    if boxes not in {devices}:
        raise RuntimeError('nms is not compiled with GPU support')
    return None, Kept
"""
REGISTRY = """
class MODELS:
    build = staticmethod(lambda config: config['type'])
"""
GATE = "assert False, 'MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0.'"
DISTRIBUTIONS = {
    'open-mmlab': {'mmengine': 'mmengine', 'mmcv': 'mmcv-lite', 'mmdet': 'mmdet', 'mmseg': 'mmsegmentation'},
    'onedl': {
        'mmengine': 'onedl-mmengine',
        'mmcv': 'mmcv-lite',
        'mmdet': 'onedl-mmdetection',
        'mmseg': 'onedl-mmsegmentation',
    },
}


class Environment:
    """A folder of stub packages, and an interpreter that can import only these and the standard library."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str = '') -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def provide(self, module: str, distribution: str, version: str = '1.0') -> None:
        folder = f'{distribution.replace("-", "_")}-{version}.dist-info'
        self.write(f'{folder}/METADATA', f'Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n')
        self.write(f'{folder}/top_level.txt', f'{module}\n')

    def torch(self, version: str = '2.13.0', gpu: bool = False, cuda: str | None = None) -> None:
        self.write('torch/__init__.py', TORCH.format(version=version, gpu=gpu, cuda=cuda))

    def nms(self, kept: tuple[int, ...] = (1,), devices: tuple[str, ...] = ('cpu',)) -> None:
        self.write('mmcv/ops.py', NMS.format(kept=list(kept), devices=devices))

    def healthy(self, family: str = 'open-mmlab') -> None:
        self.torch()
        for module in ('numpy', 'safetensors', *DISTRIBUTIONS[family]):
            self.write(f'{module}/__init__.py', "__version__ = '1.0'")
        for module, distribution in DISTRIBUTIONS[family].items():
            self.provide(module, distribution)
        self.provide('swin_backbone', 'swin-backbone')
        self.write('mmcv/_ext.py')
        self.nms()
        self.write('mmdet/registry.py', REGISTRY)
        self.write('mmseg/registry.py', REGISTRY)
        self.write('pkg_resources.py')
        self.write('pycocotools/_mask.py')
        self.provide('pycocotools', 'pycocotools', '2.0.8')

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run the doctor without ``site`` (-S), which hides packages installed by pip."""
        variables = {'PYTHONPATH': str(self.root), 'PATH': str(self.root / 'bin')}
        command = [sys.executable, '-S', str(TOOL), *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)

    def examine(self, code: int) -> dict[str, dict[str, str]]:
        """Return the rows of ``--json`` by name, after checking the exit code."""
        done = self.run('--json')
        assert done.returncode == code, done.stderr
        return {row['name']: row for row in json.loads(done.stdout)}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


@pytest.fixture
def healthy(environment: Environment) -> Environment:
    environment.healthy()
    return environment


def test_standard_library_only_reports_missing_packages(environment: Environment) -> None:
    rows = environment.examine(1)
    for module in ('torch', 'numpy', 'safetensors'):
        assert rows[module]['status'] == 'fail'
        assert f'{sys.executable} -m pip install' in rows[module]['remedy']
    assert rows['toolkits']['status'] == 'warn'
    assert rows['toolkits']['remedy'] == 'scripts/setup.sh'


def test_table_lists_the_command_below_each_problem(environment: Environment) -> None:
    done = environment.run()
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    torch = next(number for number, line in enumerate(lines) if line.startswith('fail  torch '))
    assert lines[torch + 1].strip().startswith('run: ')
    assert lines[-1].endswith(' problems to fix.')
    assert done.stderr == ''


def test_healthy_environment_has_no_problems(healthy: Environment) -> None:
    done = healthy.run()
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith('No problems found.\n')
    rows = healthy.examine(0)
    assert {row['status'] for row in rows.values()} == {'ok'}
    assert rows['mmseg']['detail'] == '1.0 (mmsegmentation)'
    assert {'mmcv operators', 'mmdet registry', 'mmseg registry', 'resume'} <= set(rows)


def test_torch_without_toolkits_is_only_a_warning(environment: Environment) -> None:
    environment.torch()
    for module in ('numpy', 'safetensors'):
        environment.write(f'{module}/__init__.py')
    rows = environment.examine(0)
    assert rows['toolkits']['status'] == 'warn'
    assert 'mmcv' not in rows


def test_forks_are_detected_by_their_distributions(environment: Environment) -> None:
    environment.healthy('onedl')
    (environment.root / 'pkg_resources.py').unlink()
    assert environment.examine(0)['toolkits']['detail'].startswith('onedl (mmcv-lite, onedl-')


@pytest.mark.parametrize('second', ['onedl-mmcv', 'mmcv'])
def test_two_distributions_of_one_module_are_reported(healthy: Environment, second: str) -> None:
    healthy.provide('mmcv', second)
    row = healthy.examine(1)['toolkits']
    assert 'overwrite' in row['detail']
    assert second in row['detail']
    assert 'uninstall -y ' in row['remedy']


def test_mixed_families_are_reported(healthy: Environment) -> None:
    (healthy.root / 'mmcv_lite-1.0.dist-info' / 'top_level.txt').unlink()
    healthy.provide('mmcv', 'onedl-mmcv')
    row = healthy.examine(1)['toolkits']
    assert row['status'] == 'fail'
    assert row['detail'].endswith('mmdet, mmengine, mmsegmentation, onedl-mmcv')


def test_missing_operators_are_reported(healthy: Environment) -> None:
    (healthy.root / 'mmcv' / '_ext.py').unlink()
    row = healthy.examine(1)['mmcv operators']
    assert 'torchvision, which provides them, does not load' in row['detail']
    assert row['remedy'].endswith("install --upgrade 'torchvision>=0.22' torch==2.13.0")


def test_operators_built_for_another_torch_are_reported(healthy: Environment) -> None:
    healthy.write('mmcv/_ext.py', "raise ImportError('undefined symbol: _ZN2at4_ops5zeros4callE')")
    healthy.write('torchvision/__init__.py')
    row = healthy.examine(1)['mmcv operators']
    assert row['remedy'].endswith('install --no-deps mmcv-lite==2.1.0')
    assert 'compiled for another torch than 2.13.0' in row['detail']
    assert 'undefined symbol' in row['detail']


def test_wrong_result_of_an_operator_is_reported(healthy: Environment) -> None:
    healthy.nms(kept=(0, 1))
    row = healthy.examine(1)['mmcv operators']
    assert 'nms does not work on cpu' in row['detail']
    assert 'kept [0, 1]' in row['detail']


def test_operators_without_gpu_support_are_reported(healthy: Environment) -> None:
    healthy.torch(gpu=True, cuda='12.6')
    rows = healthy.examine(1)
    assert rows['gpu']['detail'] == 'some GPU, CUDA 12.6'
    assert 'nms does not work on cuda' in rows['mmcv operators']['detail']
    assert 'mmcv-lite==2.1.0' in rows['mmcv operators']['remedy']
    healthy.nms(devices=('cpu', 'cuda'))
    assert healthy.examine(0)['mmcv operators']['detail'] == 'compiled; nms runs on cpu and cuda'


def test_gpu_that_torch_does_not_use_is_a_warning(healthy: Environment) -> None:
    healthy.write('bin/nvidia-smi')
    (healthy.root / 'bin' / 'nvidia-smi').chmod(0o755)
    row = healthy.examine(0)['gpu']
    assert row['status'] == 'warn'
    assert 'built for CPU only' in row['detail']
    assert '--index-url' in row['remedy']


@pytest.mark.parametrize('toolkit', ['mmdet', 'mmseg'])
def test_incompatible_mmcv_is_reported(healthy: Environment, toolkit: str) -> None:
    healthy.write(f'{toolkit}/__init__.py', GATE)
    rows = healthy.examine(1)
    assert 'MMCV==2.2.0 is used but incompatible' in rows[toolkit]['detail']
    assert rows[toolkit]['remedy'].endswith(' mmcv-lite==2.1.0')
    assert f'{toolkit} registry' not in rows


def test_missing_dependency_of_a_toolkit_is_reported(healthy: Environment) -> None:
    healthy.write('mmseg/registry.py', 'import ftfy')
    row = healthy.examine(1)['mmseg registry']
    assert row['remedy'] == f'{sys.executable} -m pip install --upgrade ftfy'


def test_pycocotools_built_for_another_numpy_are_reported(healthy: Environment) -> None:
    healthy.write(
        'pycocotools/_mask.py', "raise ValueError('numpy.dtype size changed, may indicate\\n incompatibility')"
    )
    row = healthy.examine(1)['pycocotools']
    assert 'size changed, may indicate incompatibility' in row['detail']
    assert '--force-reinstall' in row['remedy']


def test_missing_pkg_resources_are_reported(healthy: Environment) -> None:
    (healthy.root / 'pkg_resources.py').unlink()
    assert "'setuptools<81'" in healthy.examine(1)['pkg_resources']['remedy']


def test_old_torch_is_reported(healthy: Environment) -> None:
    healthy.torch(version='2.6.0+cpu')
    row = healthy.examine(1)['torch']
    assert '2.7 or newer' in row['detail']
    assert "'torch>=2.7'" in row['remedy']


@pytest.mark.parametrize(('module', 'code', 'status'), [('mmseg', 0, 'warn'), ('mmengine', 1, 'fail')])
def test_missing_toolkit_is_reported(healthy: Environment, module: str, code: int, status: str) -> None:
    shutil.rmtree(healthy.root / module)
    assert healthy.examine(code)[module]['status'] == status


def test_unknown_option_exits_with_code_2(environment: Environment) -> None:
    done = environment.run('--jsn')
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1
    assert '--jsn' in done.stderr


def test_missing_libgl_suggests_headless_opencv() -> None:
    remedy = doctor.fix_import('mmcv', ImportError('libGL.so.1: cannot open shared object file'))
    assert 'opencv-python-headless' in remedy


def test_this_environment_has_no_failures() -> None:
    pytest.importorskip('mmdet')
    failures = [row for row in doctor.diagnose() if row.status == doctor.FAIL]
    assert failures == []


def test_last_line_counts_the_problems() -> None:
    found = [doctor.Diagnosis('a', doctor.FAIL, 'x', 'fix a'), doctor.Diagnosis('b', doctor.WARN, 'y', 'fix a')]
    assert doctor.table(found).splitlines() == [
        'fail  a  x',
        '      run: fix a',
        'warn  b  y',
        '      run: the command for a',
        '1 problem to fix.',
    ]


def test_inactive_environment_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / '.venv' / 'bin').mkdir(parents=True)
    (tmp_path / '.venv' / 'bin' / 'python').touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'executable', '/usr/bin/python3')
    row = doctor.check_python()
    assert row.status == doctor.WARN and row.remedy == f'source {tmp_path}/.venv/bin/activate'
    assert doctor.pip('install', 'x').startswith(f'{tmp_path}/.venv/bin/python -m pip')
    assert f'activate the environment: source {tmp_path}' in cli.missing_package('torch')
