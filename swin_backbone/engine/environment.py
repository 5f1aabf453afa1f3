"""What the running interpreter can import, who installed it, and the pip commands that would change it.

Needs the standard library alone. The toolkits are recognised by their modules, never by the name of a distribution:
the two families provide the same modules under different names.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import re
import shlex
import sys
import warnings
from types import ModuleType

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
