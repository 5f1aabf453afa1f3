"""Errors that the command line reports without a traceback."""


class InputError(ValueError):
    """Invalid input; the message states what was wrong, what was expected and what to do.

    The command line prints it on standard error and exits with code 2 (see :mod:`swin_backbone.cli`).
    """


class RunFailure(RuntimeError):
    """Failure of a run with valid input; the message states what failed, where, and what was saved.

    The command line prints it on standard error and exits with code 1.
    """


class RunStopped(Exception):
    """End of a run that was stopped by a signal and saved its state; the message states where.

    The command line prints it on standard error and exits with code 75; ``--resume`` continues the run.
    """
