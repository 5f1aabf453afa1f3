"""Provide mmcv's operators through torchvision if mmcv was installed without its compiled module.

Importing this package is enough; it imports only the standard library.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import swin_backbone.toolkit_imports  # noqa: F401  the toolkits are usually imported next

SERVED_MODULE = 'mmcv._ext'
ORIGIN = 'torchvision'


class _Loader(Loader):
    """Loader of ``mmcv._ext`` with the functions of :mod:`swin_backbone.mmcv_ops.operators`."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        from swin_backbone.mmcv_ops import operators

        vars(module).update({name: getattr(operators, name) for name in operators.__all__})
        # mmcv looks up every operator when it is imported; only calling a missing operator is an error.
        module.__getattr__ = operators.missing_operator  # type: ignore[method-assign]


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Loader(), origin=ORIGIN) if fullname == SERVED_MODULE else None


def install_mmcv_ops() -> None:
    """Install a finder that provides ``mmcv._ext`` through torchvision.

    The finder is last in :data:`sys.meta_path`, so that a compiled ``mmcv._ext`` takes precedence. Call this before
    ``mmcv.ops`` is first imported; a second call does nothing.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def mmcv_operators() -> str:
    """Return the source of mmcv's operators: ``'compiled'``, torchvision with its version, or ``'none'``.

    The backbone works without them; detectors, segmenters and their data pipelines do not.
    """
    try:
        module = importlib.import_module(SERVED_MODULE)
    except Exception:  # no mmcv, no torchvision, or a build for another torch: OSError, RuntimeError, ...
        return 'none'
    through_torchvision = module.__spec__ is not None and module.__spec__.origin == ORIGIN
    return f'{ORIGIN} {sys.modules[ORIGIN].__version__}' if through_torchvision else 'compiled'


install_mmcv_ops()
