"""36 epochs of AdamW at 4e-4 and weight decay 0.05 for 64 images per step, a tenth of the rate for the backbone.

For each parameter, only the longest matching custom key is used, so the norms of the backbone, which have no weight
decay, need longer keys than 'backbone'.
"""

_base_ = './adamw_3x.py'

_still = dict(lr_mult=0.1, decay_mult=0.0)
_undecayed = ('patch_embed.norm', 'downsample.norm', 'backbone.norm', 'attn.cpb_mlp', 'attn.logit_scale')
optim_wrapper = dict(
    optimizer=dict(lr=0.0004),
    paramwise_cfg=dict(
        custom_keys={
            'backbone': dict(lr_mult=0.1),
            **dict.fromkeys(_undecayed, _still),
            **{f'blocks.{number}.norm': _still for number in range(42)},
        }
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=64)
