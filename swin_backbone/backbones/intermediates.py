"""Selection of the stages that ``forward_intermediates`` returns."""

from collections.abc import Sequence

from swin_backbone.errors import InputError


def select_stages(indices: int | Sequence[int] | None, count: int) -> list[int]:
    """Return the selected stage indices out of ``count``, ascending.

    Args:
        indices: stage indices, negative ones counted from the end; an integer for the last stages; None for all.
        count: number of stages that are built.

    Raises:
        InputError: if there is no such stage.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        indices = range(-indices, 0)
    if not indices or any(not -count <= index < count for index in indices):
        raise InputError(
            f'indices must be stages from {-count} to {count - 1}, or the number of last stages (1 to {count}), got '
            f'{list(indices)}.'
        )
    return sorted({index % count for index in indices})


def check_norms(stages: Sequence[int], normed: Sequence[int]) -> None:
    """Check that all stages have output norms.

    Raises:
        InputError: if one of ``stages`` is not among the ``normed`` ones.
    """
    missing = [stage for stage in stages if stage not in normed]
    if missing:
        raise InputError(
            f'norm=True needs an output norm of stage {missing[0]}, but only the stages of out_indices={tuple(normed)} '
            'have one: change out_indices, or leave norm=False.'
        )
