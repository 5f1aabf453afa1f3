"""The schedule of adamw_300e.py for Swin V2; its position bias MLP and logit scales have no weight decay either."""

_base_ = './adamw_300e.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'cpb_mlp': dict(decay_mult=0.0),
            'logit_scale': dict(decay_mult=0.0),
        }
    )
)
