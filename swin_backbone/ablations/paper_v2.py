"""The Swin V2 paper's Tables 1 and 6: position biases at other windows, norms and similarity, all for Swin V2-T.

The rows of Table 6 are assumed to use Table 1's parameterised bias, because its last row has the same score as the
first row of Table 1; an additional row adds the log-spaced bias.
"""

from typing import Any

from swin_backbone.ablations.paper_v1 import Row, Table, scores

WINDOW = 8
"""The training window of networks that are tested with other windows."""

V2: dict[str, Any] = dict(version=2, pretrained_window_sizes=(WINDOW,) * 4)
CONFIGS = {'detection': 'cascade_swinv2_t_3x', 'segmentation': 'upernet_swinv2_t_160k'}

TITLES = {'table': 'parameterised', 'linear': 'linear CPB', 'log': 'log CPB'}
PUBLISHED = {
    'table': (
        {8: 81.7, 12: 79.4, 16: 77.2, 24: 68.7},
        {16: scores(83.0, 50.8, None, 45.5), 32: scores(None, 50.9, None, 44.5)},
    ),
    'linear': (
        {8: 81.7, 12: 82.0, 16: 81.2, 24: 77.6},
        {16: scores(83.3, 50.9, None, 47.0), 32: scores(None, 51.7, None, 47.2)},
    ),
    'log': (
        {8: 81.8, 12: 82.4, 16: 81.7, 24: 79.1},
        {16: scores(83.8, 51.1, None, 47.0), 32: scores(None, 51.8, None, 47.8)},
    ),
}
"""Table 1 by bias: ImageNet top-1 at the training window and, without further training, at other windows; then scores
of networks that were fine-tuned with a larger window, with ImageNet top-1 if published for that window."""


def position_rows(bias: str) -> list[Row]:
    """Return the rows of one position bias."""
    zero_shot, trained = PUBLISHED[bias]
    title, own = TITLES[bias], f'{bias}-w{WINDOW}'
    rows = []
    for window, imagenet in zero_shot.items():
        run = own if window == WINDOW else f'{own}-to-w{window}'
        rows.append(
            Row(
                run,
                f'{title}, W{WINDOW}' + ('' if window == WINDOW else f', tested at W{window}'),
                dict(**V2, position_bias=bias, window_size=window),
                scores(imagenet, None, None, None),
                reference=own,
                source='' if window == WINDOW else own,
            )
        )
    for window, paper in trained.items():
        options = dict(**V2, position_bias=bias, window_size=window)
        rows.append(Row(f'{bias}-w{window}', f'{title}, W{window}', options, paper, reference=f'log-w{window}'))
    return rows


def block_row(run: str, title: str, imagenet: float, **choices: str) -> Row:
    """Return a row of Table 6: V2 with some of its changes undone."""
    options = dict(**V2, window_size=WINDOW, **choices)
    return Row(run, title, options, scores(imagenet, None, None, None), reference=f'table-w{WINDOW}')


TABLES = {
    'v2-position': Table(
        'v2-position',
        'Position biases and windows (Swin V2 paper, Table 1)',
        tuple(row for bias in PUBLISHED for row in position_rows(bias)),
        configs=CONFIGS,
    ),
    'v2-architecture': Table(
        'v2-architecture',
        'Norms and similarity (Swin V2 paper, Table 6)',
        (
            block_row('pre-norm', 'pre-norm', 81.5, norm_order='pre', similarity='dot', position_bias='table'),
            block_row('post-norm', '+ res-post-norm', 81.6, similarity='dot', position_bias='table'),
            block_row(f'table-w{WINDOW}', '+ scaled cosine', 81.7, position_bias='table'),
            block_row(f'log-w{WINDOW}', '+ log CPB (Table 1)', 81.8, position_bias='log'),
        ),
        configs=CONFIGS,
    ),
}
