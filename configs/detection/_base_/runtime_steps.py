"""The runtime of runtime.py for a schedule in steps instead of epochs."""

_base_ = './runtime.py'

log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000))
