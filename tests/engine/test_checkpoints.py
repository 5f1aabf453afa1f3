"""Reading a run's own checkpoints."""

import pytest
import torch

checkpoint = pytest.importorskip('mmengine.runner.checkpoint', reason='mmengine is not installed')


def test_no_other_list_of_what_a_checkpoint_may_name_stands_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from swin_backbone.engine.checkpoints import read_checkpoints_safely

    monkeypatch.setattr(checkpoint, 'get_torch_safe_globals', lambda: [getattr], raising=False)
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    before = torch.serialization.get_safe_globals()
    try:
        read_checkpoints_safely()
        assert checkpoint.get_torch_safe_globals() == []
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
