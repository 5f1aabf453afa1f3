"""What the OpenMMLab toolkits build by ``type``; :mod:`swin_backbone.registry` imports what a process needs of it."""
