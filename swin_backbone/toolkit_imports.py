"""Make MMDetection and MMPretrain importable with Transformers 5.

MMPretrain 1.2.0 cannot import its multimodal models with Transformers 5, and MMDetection imports MMPretrain if it is
installed, so neither could be imported. Importing this module replaces these models by an empty package.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

MULTIMODAL = 'mmpretrain.models.multimodal'


class _EmptyPackage(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MULTIMODAL or transformers_version() < 5:
            return None
        return ModuleSpec(fullname, _EmptyPackage(), is_package=True)


def transformers_version() -> int:
    """Return the major version of Transformers, or 0 if it is not installed."""
    try:
        return int(version('transformers').partition('.')[0])
    except PackageNotFoundError:
        return 0


if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    sys.meta_path.insert(0, _Finder())
