"""Errors that the command lines report without a traceback."""


class InputError(ValueError):
    """Input that cannot be used: the message says what was wrong, what was expected and what to do.

    The library raises it like any ``ValueError``; the command lines turn it into one sentence on standard error and
    exit code 2 (see :mod:`swin_backbone.cli`).
    """


class RunFailure(RuntimeError):
    """A run that failed although its input is valid: the message says what failed, where, and what was saved.

    The command lines print it on standard error and exit with code 1.
    """


class RunStopped(Exception):
    """A run that saved its state and ended on a signal: the message says where the state is saved.

    The command lines print it on standard error and exit with code 75; ``--resume`` continues.
    """
