"""The same for Swin V2: the network of its position bias and its temperatures are not decayed either."""

_base_ = './adamw_300e.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'cpb_mlp': dict(decay_mult=0.0),
            'logit_scale': dict(decay_mult=0.0),
        }
    )
)
