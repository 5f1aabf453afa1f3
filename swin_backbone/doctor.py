"""What is installed, what fits together, and the command that mends what does not.

Every check is a function without arguments that answers with a :class:`Diagnosis`, or with None where it does not
apply. Needs the standard library alone: the doctor has most to say where torch is missing.
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
from types import ModuleType

from swin_backbone.openmmlab import mmcv_operators

OK, WARN, FAIL = 'ok', 'warn', 'fail'
BACKBONE = {'type': 'swin_backbone.SwinTransformer', 'variant': 'tiny'}


@dataclass(frozen=True)
class Diagnosis:
    """The answer of one check.

    Attributes:
        name: what was looked at.
        status: 'ok', 'warn' (not as it could be, and not everyone minds) or 'fail' (needs mending).
        detail: what was found.
        remedy: the command that mends it; empty where nothing needs mending.
    """

    name: str
    status: str
    detail: str
    remedy: str = ''


Check = Callable[[], Diagnosis | None]


def check_python() -> Diagnosis:
    """Which interpreter is looked at."""
    return Diagnosis('python', OK, f'{platform.python_version()}, {sys.executable}')


def check_module(module: str, missing: str = FAIL, need: str = '') -> Diagnosis:
    """Whether a module is there and imports, its version and who provides it.

    Args:
        module: its top-level name.
        missing: status if it is not installed.
        need: what it is for, said if it is not installed.
    """
    if not installed(module):
        return Diagnosis(module, missing, f'not installed; {need}' if need else 'not installed', install(module))
    found = load(module)
    if isinstance(found, Exception):
        return Diagnosis(module, FAIL, f'does not import: {reason(found)}', mend_import(module, found))
    others = [name for name in providers(module) if name != module.replace('_', '-')]
    return Diagnosis(module, OK, f'{version(module)} ({", ".join(others)})' if others else version(module))


def check_torch() -> Diagnosis:
    """Whether torch is there and new enough."""
    found = check_module('torch')
    if found.status == OK and release('torch') < (2, 6):
        return Diagnosis('torch', FAIL, f'{found.detail}; 2.6 or newer is needed', install('torch'))
    return found


def check_gpu() -> Diagnosis | None:
    """Whether torch uses the GPU that the machine has."""
    torch = load('torch')
    if isinstance(torch, Exception):
        return None
    if torch.cuda.is_available():
        return Diagnosis('gpu', OK, f'{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}')
    if not shutil.which('nvidia-smi'):
        return Diagnosis('gpu', OK, 'none: everything runs on the CPU')
    built = f'built for CUDA {torch.version.cuda}' if torch.version.cuda else 'built for the CPU alone'
    index = 'https://download.pytorch.org/whl/cu126'
    detail = f'nvidia-smi is there, but torch ({built}) sees no GPU; put a CUDA that the driver knows in place of cu126'
    remedy = pip('install', '--force-reinstall', 'torch', 'torchvision', '--index-url', index)
    return Diagnosis('gpu', WARN, detail, remedy)


def check_package() -> Diagnosis:
    """Whether this package is installed and imports."""
    if not providers('swin_backbone'):
        return Diagnosis('swin_backbone', WARN, 'a checkout that is not installed', pip('install', '--editable', '.'))
    return check_module('swin_backbone')


def check_family() -> Diagnosis:
    """Which family of toolkits is installed, and whether it is one family that provides each module once."""
    found = {module: providers(module) for module in TOOLKITS if installed(module)}
    if not found:
        detail = 'none: the backbone runs on torch alone; training, evaluation and the configs need one'
        return Diagnosis('toolkits', WARN, detail, 'scripts/setup.sh')
    names = sorted({name for group in found.values() for name in group})
    forks = [name for name in names if name.startswith('onedl-')]
    mixed = forks and set(names) - set(forks) - {'mmcv-lite'}  # which serves both families
    if any(len(group) > 1 for group in found.values()) or mixed:
        detail = f'these overwrite each other or do not belong together: {", ".join(names)}'
        others = [requirement(module) for module in found if module != 'mmcv']
        steps = [pip('uninstall', '-y', *names), pip('install', *others), install_mmcv()]
        return Diagnosis('toolkits', FAIL, detail, ' && '.join(steps))
    return Diagnosis('toolkits', OK, f'{family()} ({", ".join(names) or "on the path, not installed"})')


def check_toolkit(module: str) -> Diagnosis | None:
    """Whether a module of the toolkits is there and accepts the versions of the others; None where there is none."""
    if not any(map(installed, TOOLKITS)):
        return None
    if module in ('mmengine', 'mmcv'):
        return check_module(module, need='the toolkits need it')
    return check_module(module, WARN, 'detection needs it' if module == 'mmdet' else 'segmentation needs it')


def check_ops() -> Diagnosis | None:
    """Where mmcv's operators come from, and whether they run on every kind of device here."""
    torch = load('torch')
    if isinstance(torch, Exception) or isinstance(load('mmcv'), Exception):
        return None
    name = 'mmcv operators'
    extension = load('mmcv._ext')
    if isinstance(extension, Exception):
        if isinstance(load('torchvision'), Exception):
            detail = f'mmcv has none, and torchvision, which serves them, does not load: {reason(extension)}'
            return Diagnosis(name, FAIL, detail, install_torchvision())
        detail = f'compiled for another torch than {version("torch")}: {reason(extension)}'
        return Diagnosis(name, FAIL, detail, install_mmcv())
    devices = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
    source = mmcv_operators()
    for device in devices:
        boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0]], device=device)
        try:
            _, kept = importlib.import_module('mmcv.ops').nms(boxes, torch.tensor([0.5, 0.9], device=device), 0.5)
            assert kept.tolist() == [1], f'kept {kept.tolist()} of two boxes that overlap, expected [1]'
        except Exception as error:
            detail = f'{source}; nms does not work on {device}: {reason(error)}'
            return Diagnosis(name, FAIL, detail, install_mmcv() if source == 'compiled' else install_torchvision())
    detail = f'{source}; nms runs on {" and ".join(devices)}'
    if source != 'compiled':
        detail += '; RoI, NMS and deformable operators work, others raise NotImplementedError'
    return Diagnosis(name, OK, detail)


def check_pkg_resources() -> Diagnosis | None:
    """Whether mmengine can find the configs that the toolkits bring."""
    if family() == 'onedl' or not installed('mmengine'):
        return None
    if isinstance(load('pkg_resources'), Exception):
        detail = 'missing (newer setuptools dropped it), and mmengine finds \'_base_ = "mmdet::..."\' through it'
        return Diagnosis('pkg_resources', FAIL, detail, install('pkg_resources'))
    return Diagnosis('pkg_resources', OK, 'there')


def check_pycocotools() -> Diagnosis | None:
    """Whether the compiled part of COCO's evaluator fits this numpy."""
    if not installed('pycocotools'):
        return check_module('pycocotools', need='MMDetection needs it') if installed('mmdet') else None
    found = load('pycocotools._mask')
    if isinstance(found, Exception):
        remedy = pip('install', '--force-reinstall', '--no-deps', '--no-cache-dir', requirement('pycocotools'))
        return Diagnosis('pycocotools', FAIL, f'_mask does not load beside this numpy: {reason(found)}', remedy)
    return Diagnosis('pycocotools', OK, f'{version("pycocotools")}; _mask loads')


def check_resume() -> Diagnosis | None:
    """What to know of resuming where torch refuses pickled classes."""
    if not installed('mmengine') or isinstance(load('torch'), Exception) or release('torch') < (2, 6):
        return None
    detail = (
        'torch >= 2.6 refuses classes in checkpoints: swin-backbone train --resume admits those of a run, no others'
    )
    return Diagnosis('resume', OK, detail)


def check_registry(toolkit: str) -> Diagnosis | None:
    """Whether a toolkit builds the backbone with no custom import."""
    if isinstance(load(toolkit), Exception) or isinstance(load('swin_backbone'), Exception):
        return None
    name = f'{toolkit} registry'
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            importlib.import_module(f'{toolkit}.registry').MODELS.build(BACKBONE)
    except Exception as error:
        return Diagnosis(name, FAIL, f'does not build the backbone: {reason(error)}', mend_import(toolkit, error))
    return Diagnosis(name, OK, f'builds type={BACKBONE["type"]!r}')


CHECKS: tuple[Check, ...] = (
    check_python,
    check_torch,
    check_gpu,
    partial(check_module, 'numpy'),
    partial(check_module, 'safetensors'),
    check_package,
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
    """Run the checks in order and keep the answers of those that apply."""
    return [found for check in checks if (found := check()) is not None]


def table(found: Sequence[Diagnosis]) -> str:
    """The diagnoses as lines for a person, each remedy below what it mends, with a verdict at the end."""
    width = max(len(diagnosis.name) for diagnosis in found)
    lines: list[str] = []
    remedies: dict[str, str] = {}
    for diagnosis in found:
        lines.append(f'{diagnosis.status:<4}  {diagnosis.name:<{width}}  {diagnosis.detail}')
        if diagnosis.remedy:
            first = remedies.setdefault(diagnosis.remedy, diagnosis.name)
            command = diagnosis.remedy if first == diagnosis.name else f'the command for {first}'
            lines.append(f'{"":<6}run: {command}')
    failures = sum(diagnosis.status == FAIL for diagnosis in found)
    lines.append(f'{failures} to mend.' if failures else 'All is well.')
    return '\n'.join(lines)


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
    'torch': 'torch>=2.6',
    'torchvision': 'torchvision>=0.21',
    'yaml': 'pyyaml',
}


def load(module: str) -> ModuleType | Exception:
    """Import a module; a failure of whatever kind is an answer here, not an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return importlib.import_module(module)
    except Exception as error:  # a package that does not fit raises anything: AssertionError, ValueError, OSError
        return error


def reason(error: Exception) -> str:
    """An error in one line."""
    return f'{type(error).__name__}: {" ".join(str(error).split())}'


def installed(module: str) -> bool:
    """Whether a top-level module can be found, working or not."""
    return importlib.util.find_spec(module) is not None


@functools.cache
def _providers() -> dict[str, list[str]]:
    found = importlib.metadata.packages_distributions()
    return {module: sorted({name.lower().replace('_', '-') for name in names}) for module, names in found.items()}


def providers(module: str) -> list[str]:
    """Distributions that brought a module, sorted; empty for one that merely lies on the path."""
    return _providers().get(module, [])


def version(module: str) -> str:
    """Version of a module that imports, by its own word or else its distribution's; empty if neither says."""
    own = getattr(load(module), '__version__', None)
    return str(own or next(map(importlib.metadata.version, providers(module)), ''))


def release(module: str) -> tuple[int, int]:
    """Major and minor version of a module that imports; zeros if it does not say."""
    found = re.match(r'(\d+)\.(\d+)', version(module))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def family() -> str:
    """The family of the installed toolkits, a key of :data:`FAMILIES`."""
    names = [name for module in TOOLKITS for name in providers(module)]
    return 'onedl' if any(name.startswith('onedl-') for name in names) else 'open-mmlab'


def requirement(module: str) -> str:
    """What to ask pip for to get a module that fits the installed family."""
    return FAMILIES[family()].get(module) or REQUIREMENTS.get(module, module)


def pip(*arguments: str) -> str:
    """A pip command line for the running interpreter, quoted for a shell."""
    return shlex.join([sys.executable, '-m', 'pip', *arguments])


def install_mmcv() -> str:
    """The command that puts mmcv-lite in the place of whatever provides mmcv.

    The forks' mmengine has another name than the one that mmcv-lite asks for, hence ``--no-deps``.
    """
    steps = [pip('uninstall', '-y', *providers('mmcv'))] if providers('mmcv') else []
    return ' && '.join([*steps, pip('install', '--no-deps', requirement('mmcv'))])


def install_torchvision() -> str:
    """The command that installs the torchvision of the torch that is here."""
    return pip('install', '--upgrade', requirement('torchvision'), f'torch=={version("torch").partition("+")[0]}')


def install(module: str) -> str:
    """The command that installs a module, or brings it to the version that fits."""
    return install_mmcv() if module == 'mmcv' else pip('install', '--upgrade', requirement(module))


def mend_import(module: str, error: Exception) -> str:
    """The command for a module that is there and whose import ended in an error."""
    text = str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(module):
        return install(error.name.split('.')[0])
    if 'libGL' in text or 'libgthread' in text:  # opencv-python wants a desktop's libraries
        headless = pip('install', '--force-reinstall', '--no-deps', 'opencv-python-headless')
        return f'{pip("uninstall", "-y", "opencv-python")} && {headless}'
    if isinstance(error, AssertionError):
        # The toolkits' version gates: 'MMCV==2.2.0 is used but incompatible', and the same of MMEngine.
        module = next((gated for gated in ('mmcv', 'mmengine') if text.lower().startswith(f'{gated}==')), module)
        return install(module)
    return pip('install', '--force-reinstall', '--no-deps', requirement(module))
