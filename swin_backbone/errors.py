"""The one kind of error that a user can mend."""


class InputError(ValueError):
    """Input that cannot be used: the message says what was wrong, what was expected and what to do.

    The library raises it like any ``ValueError``; the command lines turn it into one sentence on standard error and
    exit code 2 (see :mod:`swin_backbone.cli`).
    """
