"""The Swin V2 paper's tables: rows, and testing of trained networks with other window sizes."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg', reason='MMSegmentation is not installed')

from swin_backbone import SwinTransformer
from swin_backbone.ablations.paper_v2 import TABLES
from swin_backbone.ablations.process_pool import Launch
from swin_backbone.ablations.runs import Plan, Run, State, make_plan
from swin_backbone.ablations.sweep import Sweep

METRICS = ('mIoU',)
SMALL = {
    'model.backbone.embed_dim': 16,
    'model.backbone.depths': (1, 1, 1, 1),
    'model.decode_head.in_channels': [16, 32, 64, 128],
}


def plan_of(folder: Path, table: str = 'v2-position') -> Plan:
    overrides = [f'{key}={value}'.replace(' ', '') for key, value in SMALL.items()]
    return make_plan(
        table, 'segmentation', None, str(folder), [0], max_iters=4, demo=True, check_data=False, overrides=overrides
    )


def finish(run: Run) -> None:
    """Write the files of a finished training run, with random weights."""
    run.write_config()
    options = {k: v for k, v in run.config.model.backbone.to_dict().items() if k not in ('type', 'init_cfg')}
    state = {f'backbone.{name}': value for name, value in SwinTransformer(**options).state_dict().items()}
    torch.save(dict(state_dict={**state, 'decode_head.x': torch.ones(1)}), run.folder / 'iter_4.pth')
    (run.folder / 'last_checkpoint').write_text(str(run.folder / 'iter_4.pth'))
    (run.folder / 'summary.json').write_text(json.dumps(dict(mIoU=0.5)))


def test_rows_have_the_published_numbers_and_valid_options() -> None:
    position, blocks = (TABLES[name].runs for name in ('v2-position', 'v2-architecture'))
    assert position['table-w8-to-w24'].paper == dict(top1=68.7)
    assert position['log-w16'].paper == dict(top1=83.8, bbox_mAP=51.1, mIoU=47.0)
    assert position['linear-w32'].paper == dict(bbox_mAP=51.7, mIoU=47.2)
    assert [row.paper['top1'] for row in blocks.values()] == [81.5, 81.6, 81.7, 81.8]
    shared = set(position) & set(blocks)
    assert shared == {'table-w8', 'log-w8'} and all(position[n].options == blocks[n].options for n in shared)
    for row in [*position.values(), *blocks.values()]:
        model = SwinTransformer(None, embed_dim=16, depths=(1,), num_heads=(1,), out_indices=(0,),
                                **{**row.options, 'pretrained_window_sizes': (8,)})  # fmt: skip
        assert model(torch.randn(1, 3, 32, 32))[0].shape == (1, 16, 8, 8)


@pytest.mark.parametrize('bias', ['table', 'log'])
def test_a_trained_network_is_tested_with_another_window(bias: str, tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    trained, tested = plan.runs([f'{bias}-w8', f'{bias}-w8-to-w16'])
    assert trained.source is None and tested.source == trained.folder
    sweep, launch = Sweep(plan, [trained.row.run, tested.row.run], print), Launch()
    assert len(sweep.commands(launch)) == 1 and tested.tested_checkpoint is None
    finish(trained)
    assert tested.progress(METRICS).state is State.NEW
    (line,) = sweep.commands(launch)
    assert f'test {tested.folder}/ablation.py {tested.folder}/transferred.pth' in line
    state = torch.load(tested.folder / 'transferred.pth', weights_only=True)['state_dict']
    options = {k: v for k, v in tested.config.model.backbone.to_dict().items() if k not in ('type', 'init_cfg')}
    SwinTransformer(**options).load_state_dict(
        {name.removeprefix('backbone.'): value for name, value in state.items() if name.startswith('backbone.')}
    )
    assert 'decode_head.x' in state


def test_a_test_without_its_finished_training_run_is_reported(tmp_path: Path) -> None:
    sweep = Sweep(plan_of(tmp_path), ['log-w8-to-w12'], print)
    (sentence,) = sweep.start(Launch())
    assert 'the run log-w8 with this seed is not finished; add it to --rows' in sentence


def test_v2_tables_use_the_v2_configs(tmp_path: Path) -> None:
    for task, config in (('detection', 'cascade_swinv2_t_3x'), ('segmentation', 'upernet_swinv2_t_160k')):
        plan = make_plan('v2-architecture', task, None, str(tmp_path), [0], check_data=False)
        assert Path(plan.base.filename).stem == config
