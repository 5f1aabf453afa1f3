"""Report installed versions, incompatibilities, and the command that fixes each.

A check is a function without arguments that returns a :class:`Diagnosis`, or None if it does not apply. Third-party
packages are imported only inside the checks, because any of them may be missing.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import platform
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from swin_backbone.mmcv_ops import mmcv_operators

OK, WARN, FAIL = 'ok', 'warn', 'fail'
ENVIRONMENTS = ('.venv', '.venv-onedl')
BACKBONE = {'type': 'swin_backbone.SwinTransformer', 'variant': 'tiny'}
FAMILIES = {
    'open-mmlab': {
        'mmengine': 'mmengine==0.10.7',
        'mmcv': 'mmcv-lite==2.1.0',
        'mmdet': 'mmdet==3.3.0',
        'mmseg': 'mmsegmentation==1.2.2',
    },
    'onedl': {
        'mmengine': 'onedl-mmengine>=0.10.12,<0.11',
        'mmcv': 'mmcv-lite==2.1.0',
        'mmdet': 'onedl-mmdetection>=3.5.1,<3.6',
        'mmseg': 'onedl-mmsegmentation>=1.4.2,<1.5',
    },
}
TOOLKITS = tuple(FAMILIES['onedl'])
REQUIREMENTS = {
    'PIL': 'pillow',
    'cv2': 'opencv-python-headless',
    'pkg_resources': 'setuptools<81',
    'pycocotools': 'pycocotools>=2.0.8',  # the first that is compiled for numpy 2
    'torch': 'torch>=2.7',
    'torchvision': 'torchvision>=0.22',
    'yaml': 'pyyaml',
}


@dataclass(frozen=True)
class Diagnosis:
    """The result of one check.

    Attributes:
        name: what was checked.
        status: 'ok', 'warn' (a limitation that may be acceptable) or 'fail' (a problem to fix).
        detail: what was found.
        remedy: the command that fixes it; empty if there is nothing to fix.
    """

    name: str
    status: str
    detail: str
    remedy: str = ''


Check = Callable[[], Diagnosis | None]


def environment() -> Path | None:
    """Find a virtual environment in the current folder or the checkout; None if one is active or none is found."""
    if (Path(sys.executable).parent.parent / 'pyvenv.cfg').is_file():  # `python -S` leaves sys.prefix as it is
        return None
    places = (folder / name for folder in (Path.cwd(), Path(__file__).parents[1]) for name in ENVIRONMENTS)
    return next((place for place in places if (place / 'bin' / 'python').is_file()), None)


def activation(place: Path) -> str:
    """Return the command that activates a virtual environment."""
    return shlex.join(['source', str(place / 'bin' / 'activate')])


def check_python() -> Diagnosis:
    """Report the interpreter, and a virtual environment that is not activated."""
    place = environment()
    if place is not None:
        found = f'{platform.python_version()}, {sys.executable}: the environment {place} is not activated'
        return Diagnosis('python', WARN, found, activation(place))
    return Diagnosis('python', OK, f'{platform.python_version()}, {sys.executable}')


def check_module(module: str, missing: str = FAIL, need: str = '') -> Diagnosis:
    """Check that a module imports; if not, the status is ``missing``, and ``need`` says why it is needed."""
    if not installed(module):
        return Diagnosis(module, missing, f'not installed; {need}' if need else 'not installed', install(module))
    found = load(module)
    if isinstance(found, Exception):
        return Diagnosis(module, FAIL, f'does not import: {reason(found)}', fix_import(module, found))
    others = [name for name in providers(module) if name != module.replace('_', '-')]
    return Diagnosis(module, OK, f'{version(module)} ({", ".join(others)})' if others else version(module))


def check_torch() -> Diagnosis:
    """Check the version of torch."""
    found = check_module('torch')
    if found.status == OK and release('torch') < (2, 7):
        return Diagnosis('torch', FAIL, f'{found.detail}; 2.7 or newer is needed', install('torch'))
    return found


def check_gpu() -> Diagnosis | None:
    """Check that torch uses the GPU of the machine."""
    torch = load('torch')
    if isinstance(torch, Exception):
        return None
    if torch.cuda.is_available():
        return Diagnosis('gpu', OK, f'{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}')
    if not shutil.which('nvidia-smi'):
        return Diagnosis('gpu', OK, 'none; everything runs on the CPU')
    built = f'built for CUDA {torch.version.cuda}' if torch.version.cuda else 'built for CPU only'
    detail = (
        f'nvidia-smi exists, but torch ({built}) finds no GPU; replace cu126 by a CUDA version that the driver supports'
    )
    index = ('--index-url', 'https://download.pytorch.org/whl/cu126')
    return Diagnosis('gpu', WARN, detail, pip('install', '--force-reinstall', 'torch', 'torchvision', *index))


def check_attention() -> Diagnosis | None:
    """Report which window attention kernels are used on this machine."""
    torch = load('torch')
    kernels = load('swin_backbone.attention.kernels.triton_launch')
    if isinstance(torch, Exception) or isinstance(kernels, Exception):
        return None
    return Diagnosis('attention', OK, kernels.describe_choice())


def check_package() -> Diagnosis:
    """Check that this package is installed and imports."""
    if not providers('swin_backbone'):
        return Diagnosis('swin_backbone', WARN, 'a checkout that is not installed', pip('install', '--editable', '.'))
    return check_module('swin_backbone')


def check_family() -> Diagnosis:
    """Check that all toolkits are of the same family, and that each module is from a single distribution."""
    found = {module: providers(module) for module in TOOLKITS if installed(module)}
    if not found:
        detail = 'none; the backbone only needs torch, but training, evaluation and the configs need a toolkit'
        return Diagnosis('toolkits', WARN, detail, 'scripts/setup.sh')
    names = sorted({name for group in found.values() for name in group})
    forks = [name for name in names if name.startswith('onedl-')]
    mixed = forks and set(names) - set(forks) - {'mmcv-lite'}  # mmcv-lite works with both families
    if any(len(group) > 1 for group in found.values()) or mixed:
        detail = f'these packages overwrite each other or are of different families: {", ".join(names)}'
        others = [requirement(module) for module in found if module != 'mmcv']
        remedy = ' && '.join([pip('uninstall', '-y', *names), pip('install', *others), install('mmcv')])
        return Diagnosis('toolkits', FAIL, detail, remedy)
    return Diagnosis('toolkits', OK, f'{family()} ({", ".join(names) or "on the path, not installed"})')


def check_toolkit(module: str) -> Diagnosis | None:
    """Check that a module of the toolkits imports, which includes their checks of each other's versions."""
    if not any(map(installed, TOOLKITS)):
        return None
    task = {'mmdet': 'detection', 'mmseg': 'segmentation'}.get(module)
    return check_module(module, WARN if task else FAIL, f'{task or "a toolkit"} needs it')


def check_ops() -> Diagnosis | None:
    """Check that mmcv's operators run on every device; report their source."""
    torch = load('torch')
    if isinstance(torch, Exception) or isinstance(load('mmcv'), Exception):
        return None
    fail = partial(Diagnosis, 'mmcv operators', FAIL)
    extension = load('mmcv._ext')
    if isinstance(extension, Exception):
        if isinstance(load('torchvision'), Exception):
            detail = f'mmcv has none, and torchvision, which provides them, does not load: {reason(extension)}'
            return fail(detail, install('torchvision'))
        return fail(f'compiled for another torch than {version("torch")}: {reason(extension)}', install('mmcv'))
    devices = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
    source = mmcv_operators()
    for device in devices:
        boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0]], device=device)
        try:
            _, kept = importlib.import_module('mmcv.ops').nms(boxes, torch.tensor([0.5, 0.9], device=device), 0.5)
            assert kept.tolist() == [1], f'kept {kept.tolist()} of two boxes that overlap, expected [1]'
        except Exception as error:
            remedy = install('mmcv' if source == 'compiled' else 'torchvision')
            return fail(f'{source}; nms does not work on {device}: {reason(error)}', remedy)
    limits = (
        '; RoI, NMS and deformable operators work, others raise NotImplementedError' if source != 'compiled' else ''
    )
    return Diagnosis('mmcv operators', OK, f'{source}; nms runs on {" and ".join(devices)}{limits}')


def check_pkg_resources() -> Diagnosis | None:
    """Check that mmengine can find the configs of the toolkits."""
    if family() == 'onedl' or not installed('mmengine'):
        return None
    if isinstance(load('pkg_resources'), Exception):
        detail = 'missing (newer setuptools removed it); mmengine needs it for \'_base_ = "mmdet::..."\''
        return Diagnosis('pkg_resources', FAIL, detail, install('pkg_resources'))
    return Diagnosis('pkg_resources', OK, 'installed')


def check_pycocotools() -> Diagnosis | None:
    """Check that the compiled part of COCO's evaluator loads with this numpy."""
    if not installed('pycocotools'):
        return check_module('pycocotools', need='MMDetection needs it') if installed('mmdet') else None
    found = load('pycocotools._mask')
    if isinstance(found, Exception):
        remedy = pip('install', '--force-reinstall', '--no-deps', '--no-cache-dir', requirement('pycocotools'))
        return Diagnosis('pycocotools', FAIL, f'_mask does not load with this numpy: {reason(found)}', remedy)
    return Diagnosis('pycocotools', OK, f'{version("pycocotools")}; _mask loads')


def check_resume() -> Diagnosis | None:
    """Report how runs are resumed with versions of torch that reject pickled classes."""
    if not installed('mmengine') or isinstance(load('torch'), Exception) or release('torch') < (2, 6):
        return None
    detail = 'torch >= 2.6 rejects classes in checkpoints; swin-backbone train --resume allows those that a run writes'
    return Diagnosis('resume', OK, detail)


def check_registry(toolkit: str) -> Diagnosis | None:
    """Check that a toolkit builds the backbone without custom imports."""
    if isinstance(load(toolkit), Exception) or isinstance(load('swin_backbone'), Exception):
        return None
    name = f'{toolkit} registry'
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            importlib.import_module(f'{toolkit}.registry').MODELS.build(BACKBONE)
    except Exception as error:
        return Diagnosis(name, FAIL, f'does not build the backbone: {reason(error)}', fix_import(toolkit, error))
    return Diagnosis(name, OK, f'builds type={BACKBONE["type"]!r}')


CHECKS: tuple[Check, ...] = (
    check_python,
    check_torch,
    check_gpu,
    partial(check_module, 'numpy'),
    partial(check_module, 'safetensors'),
    check_package,
    check_attention,
    check_family,
    partial(check_toolkit, 'mmengine'),
    partial(check_toolkit, 'mmcv'),
    check_ops,
    partial(check_toolkit, 'mmdet'),
    partial(check_toolkit, 'mmseg'),
    check_pkg_resources,
    check_pycocotools,
    check_resume,
    partial(check_registry, 'mmdet'),
    partial(check_registry, 'mmseg'),
)


def diagnose(checks: Sequence[Check] = CHECKS) -> list[Diagnosis]:
    """Run the checks in order; return the results of those that apply."""
    return [found for check in checks if (found := check()) is not None]


def table(found: Sequence[Diagnosis]) -> str:
    """Format the results as lines, with commands below the problems they fix, and the number of problems at the end."""
    width = max(len(diagnosis.name) for diagnosis in found)
    lines: list[str] = []
    remedies: dict[str, str] = {}
    for diagnosis in found:
        lines.append(f'{diagnosis.status:<4}  {diagnosis.name:<{width}}  {diagnosis.detail}')
        if diagnosis.remedy:
            first = remedies.setdefault(diagnosis.remedy, diagnosis.name)
            lines.append(f'      run: {diagnosis.remedy if first == diagnosis.name else f"the command for {first}"}')
    failures = sum(diagnosis.status == FAIL for diagnosis in found)
    problems = '1 problem' if failures == 1 else f'{failures} problems'
    return '\n'.join([*lines, f'{problems} to fix.' if failures else 'No problems found.'])


def load(module: str) -> ModuleType | Exception:
    """Import a module; return it or the error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return importlib.import_module(module)
    except Exception as error:  # an incompatible package may raise AssertionError, ValueError, OSError and others
        return error


def reason(error: Exception) -> str:
    """Format an error as one line."""
    return f'{type(error).__name__}: {" ".join(str(error).split())}'


def installed(module: str) -> bool:
    """Whether a top-level module can be found, even if it does not import."""
    return importlib.util.find_spec(module) is not None


distributions = functools.cache(importlib.metadata.packages_distributions)


def providers(module: str) -> list[str]:
    """Return the sorted names of the distributions that contain a module; empty if it is only on the path."""
    return sorted({name.lower().replace('_', '-') for name in distributions().get(module, [])})


def version(module: str) -> str:
    """Return the version of a module or of its distribution; empty if neither has one."""
    own = getattr(load(module), '__version__', None)
    return str(own or next(map(importlib.metadata.version, providers(module)), ''))


def release(module: str) -> tuple[int, ...]:
    """Return major and minor version of a module; empty if it has none."""
    return tuple(map(int, re.findall(r'\d+', version(module))[:2]))


def family() -> str:
    """Return the family of the installed toolkits, a key of :data:`FAMILIES`."""
    names = [name for module in TOOLKITS for name in providers(module)]
    return 'onedl' if any(name.startswith('onedl-') for name in names) else 'open-mmlab'


def requirement(module: str) -> str:
    """Return the requirement that installs a module of the installed family."""
    return FAMILIES[family()].get(module) or REQUIREMENTS.get(module, module)


def pip(*arguments: str) -> str:
    """Return a shell-quoted pip command for the running interpreter, or for an environment that is not activated."""
    place = environment()
    python = sys.executable if place is None else str(place / 'bin' / 'python')
    return shlex.join([python, '-m', 'pip', *arguments])


def install(module: str) -> str:
    """Return the command that installs a module in the required version."""
    if module == 'mmcv':
        # Use --no-deps, because mmcv-lite requires mmengine, which the forks provide under another name.
        steps = [pip('uninstall', '-y', *providers('mmcv'))] if providers('mmcv') else []
        return ' && '.join([*steps, pip('install', '--no-deps', requirement('mmcv'))])
    torch = version('torch').partition('+')[0] if module == 'torchvision' else ''
    return pip('install', '--upgrade', requirement(module), *([f'torch=={torch}'] if torch else []))


def fix_import(module: str, error: Exception) -> str:
    """Return the command that fixes the import of an installed module."""
    text = str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(module):
        return install(error.name.split('.')[0])
    if 'libGL' in text or 'libgthread' in text:  # opencv-python needs desktop libraries
        headless = pip('install', '--force-reinstall', '--no-deps', 'opencv-python-headless')
        return f'{pip("uninstall", "-y", "opencv-python")} && {headless}'
    if isinstance(error, AssertionError):  # a version check: 'MMCV==2.2.0 is used but incompatible', or MMEngine
        return install(next((name for name in ('mmcv', 'mmengine') if text.lower().startswith(f'{name}==')), module))
    return pip('install', '--force-reinstall', '--no-deps', requirement(module))
