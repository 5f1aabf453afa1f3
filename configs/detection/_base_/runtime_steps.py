"""The same runtime for a schedule that counts steps, not epochs."""

_base_ = './runtime.py'

log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000))
