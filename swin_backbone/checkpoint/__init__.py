"""Load published and third-party weights into a backbone, or raise an error that explains why they do not fit.

Name, path or URL -> local file (:mod:`.find`) -> contents, read safely (:mod:`.read`) -> backbone under native names
(:mod:`.convert`, tables in :mod:`.layouts`) -> shapes of the model (:mod:`.resize`) -> strict merge (:mod:`.load`).

The modules that read files are imported on first use, because they need numpy and a backbone does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from swin_backbone.checkpoint.load import convert_on_load, load_pretrained
from swin_backbone.checkpoint.report import LoadReport

if TYPE_CHECKING:
    from swin_backbone.checkpoint.pickles import allowed_globals, safe_globals
    from swin_backbone.checkpoint.read import read_checkpoint

__all__ = [
    'LoadReport',
    'allowed_globals',
    'convert_on_load',
    'load_pretrained',
    'read_checkpoint',
    'safe_globals',
]

_DEFINED_IN = {'allowed_globals': 'pickles', 'read_checkpoint': 'read', 'safe_globals': 'pickles'}


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_DEFINED_IN[name]}'), name)
