"""Load published and foreign weights into a backbone, completely or with the reason why not.

file -> safe reader (:mod:`.reading`) -> find the backbone and its dialect (:mod:`.dialects`, tables in :mod:`.names`,
steps in :mod:`.regroup`) -> fit each parameter (:mod:`.adapt`) -> strict merge (:mod:`.merge`) -> model.
"""

from swin_backbone.checkpoint.load import convert_on_load, load_pretrained
from swin_backbone.checkpoint.read import allowed_globals, read_checkpoint, safe_globals
from swin_backbone.checkpoint.report import LoadReport

__all__ = [
    'LoadReport',
    'allowed_globals',
    'convert_on_load',
    'load_pretrained',
    'read_checkpoint',
    'safe_globals',
]
