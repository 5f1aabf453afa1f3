"""Registration of the backbones for both toolkits: ``type='swin_backbone.SwinTransformer'``."""

from swin_backbone.backbones.deit import DeiTPyramid
from swin_backbone.backbones.mixer import SwinMixer
from swin_backbone.backbones.mm_swin import MMSwinTransformer
from swin_backbone.backbones.swin import SwinTransformer
from swin_backbone.backbones.video import VideoSwinTransformer
from swin_backbone.registry import MODELS

MODELS.register_module(module=SwinTransformer)
MODELS.register_module(module=MMSwinTransformer)
MODELS.register_module(module=SwinMixer)
MODELS.register_module(module=VideoSwinTransformer)
MODELS.register_module(module=DeiTPyramid)
