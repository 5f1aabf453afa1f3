"""Which stages ``forward_intermediates`` returns."""

from collections.abc import Sequence

from swin_backbone.errors import InputError


def chosen_stages(indices: int | Sequence[int] | None, count: int) -> list[int]:
    """Numbers of the chosen stages out of ``count``, ascending.

    Args:
        indices: numbers of stages, negative ones counted from the end; how many of the last ones; or None for all.
        count: stages that are built.

    Raises:
        InputError: there is no such stage.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        indices = range(-indices, 0)
    if not indices or any(not -count <= index < count for index in indices):
        raise InputError(
            f'indices must be numbers of the {count} stages that are built, from {-count} to {count - 1}, or how many '
            f'of the last ones, got {list(indices)}.'
        )
    return sorted({index % count for index in indices})


def check_norms(stages: Sequence[int], normed: Sequence[int]) -> None:
    """Refuse norms after stages that have none.

    Raises:
        InputError: one of ``stages`` is not among the ``normed`` ones.
    """
    missing = [stage for stage in stages if stage not in normed]
    if missing:
        raise InputError(
            f'norm=True needs a norm after stage {missing[0]}, and only the stages of out_indices={tuple(normed)} '
            'have one: build the backbone with others, or leave norm out.'
        )
