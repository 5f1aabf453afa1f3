"""160k iterations as in the Swin V2 paper: AdamW at 4e-5, weight decay 0.05, layer-wise learning rate decay 0.95.

The position bias MLP and the logit scales have no weight decay.
"""

_base_ = './adamw_160k.py'

optim_wrapper = dict(
    constructor='swin_backbone.LayerDecayOptimWrapperConstructor',
    optimizer=dict(lr=0.00004, weight_decay=0.05),
    paramwise_cfg=dict(
        decay_rate=0.95,
        custom_keys=dict(cpb_mlp=dict(decay_mult=0.0), logit_scale=dict(decay_mult=0.0)),
    ),
)
