"""Types registered for the OpenMMLab toolkits; :mod:`swin_backbone.registry` imports those of the loaded toolkits."""
