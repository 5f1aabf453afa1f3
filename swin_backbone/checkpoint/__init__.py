"""Load published and foreign weights into a backbone, completely or with the reason why not.

Name, path or URL -> local file (:mod:`.find`) -> contents, read safely (:mod:`.read`) -> backbone under native names
(:mod:`.convert`, tables in :mod:`.layouts`) -> shapes of the model (:mod:`.fit`) -> strict merge (:mod:`.load`).
"""

from swin_backbone.checkpoint.load import convert_on_load, load_pretrained
from swin_backbone.checkpoint.pickles import allowed_globals, safe_globals
from swin_backbone.checkpoint.read import read_checkpoint
from swin_backbone.checkpoint.report import LoadReport

__all__ = [
    'LoadReport',
    'allowed_globals',
    'convert_on_load',
    'load_pretrained',
    'read_checkpoint',
    'safe_globals',
]
