"""Triton kernels of window attention, which read the map of queries, keys and values and write the attended map.

Padding, shift and windows are computed as addresses, so tensors of windows, padding or masks are never created. A tile
is one head of one window. :mod:`swin_backbone.attention.kernels.triton_launch` launches the kernels. Only this module
imports triton.

Logits are in units of ln 2, since GPUs have an exp2 instruction: ``bias`` and ``scale`` are passed multiplied by
log2(e). ``bias`` is minus infinity in the columns of keys that do not exist, which fill a window up to the size of a
tile.

With ``COSINE``, queries and keys are normalized in float32 when they are read, and rounded to their dtype.
"""
# Triton kernels are not typed, and their constants are upper case.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# ruff: noqa: N803, N806

import os

import triton
import triton.language as tl

VERSION = tuple(int(part) for part in triton.__version__.split('.')[:2])
INTERPRETED = tl.constexpr(os.environ.get('TRITON_INTERPRET') == '1')
MASKED = tl.constexpr(-100.0 * 1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
MIN_NORM = tl.constexpr(1e-12)  # lower bound of a norm that divides, as in torch.nn.functional.normalize


@triton.jit
def _product(a, b, PRECISION: tl.constexpr):
    if INTERPRETED:  # the interpreter stores bfloat16 as integers, and would multiply those
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def _tokens(
    t, window, H, W, n_h, n_w, MH: tl.constexpr, MW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr
):  # fmt: skip
    """Return row and column in the padded map, and the region in the shift's mask, of positions ``t`` of a window."""
    wx = window % n_w
    wy = window // n_w % n_h
    iy = t // MW
    ix = t % MW
    y = wy * MH + iy + SH
    x = wx * MW + ix + SW
    if SH > 0:
        y = tl.where(y >= n_h * MH, y - n_h * MH, y)
    if SW > 0:
        x = tl.where(x >= n_w * MW, x - n_w * MW, x)
    below = (wy == n_h - 1) & (iy >= MH - SH)
    beyond = (wx == n_w - 1) & (ix >= MW - SW)
    return y, x, below.to(tl.int32) * 2 + beyond.to(tl.int32)


@triton.jit
def _load(base, pad, rows, real, inside, start, C: tl.constexpr, D: tl.constexpr, HAS_PAD: tl.constexpr):
    """Read channels ``start`` to ``start + D`` of tokens; those of padding from ``pad``, or zeros."""
    cols = tl.arange(0, D)[None, :]
    if HAS_PAD:
        # tl.where hides the alignment of addresses, and without it Triton loads two bytes at a time.
        pointers = tl.multiple_of(tl.where(real, base + rows * (3 * C) + start, pad + start), 16)
        return tl.load(pointers[:, None] + cols, mask=inside[:, None], other=0.0)
    return tl.load(base + (rows * (3 * C) + start)[:, None] + cols, mask=real[:, None], other=0.0)


@triton.jit
def _unit(x):
    """Normalize rows of ``x`` in float32; also return the factor of their gradient, which is zero for rows of zeros."""
    x = x.to(tl.float32)
    length = tl.sqrt(tl.sum(x * x, 1))
    inverse = 1.0 / tl.maximum(length, MIN_NORM)
    return x * inverse[:, None], tl.where(length > MIN_NORM, inverse, 0.0)


@triton.jit
def _logits(q, k, bias, factor, row_regions, col_regions, SHIFTED: tl.constexpr, PRECISION: tl.constexpr):
    logits = _product(q, tl.trans(k), PRECISION) * factor + bias.to(tl.float32)
    if SHIFTED:
        logits = tl.where(row_regions[:, None] == col_regions[None, :], logits, logits + MASKED)
    return logits


@triton.jit(do_not_specialize=['H', 'W', 'n_h', 'n_w', 'windows'])
def window_forward(
    qkv, pad, bias, scale, out, H, W, n_h, n_w, windows,
    HEADS: tl.constexpr, D: tl.constexpr, MH: tl.constexpr, MW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    TILE: tl.constexpr, HAS_PAD: tl.constexpr, PRECISION: tl.constexpr, COSINE: tl.constexpr,
):  # fmt: skip
    """Attend within windows that fit into one tile.

    A program computes one head, whose bias it reads once, of every ``num_programs // HEADS``-th window.

    Args:
        qkv: ``[B, H, W, 3 * HEADS * D]``.
        pad: ``[3 * HEADS * D]``, read if ``HAS_PAD``.
        bias: ``[HEADS, TILE, TILE]`` float32.
        scale: ``[HEADS]`` float32.
        out: ``[B, H, W, HEADS * D]``.
        H: rows of the map.
        W: columns of the map.
        n_h: windows per column.
        n_w: windows per row.
        windows: windows of the batch.
    """
    N: tl.constexpr = MH * MW
    C: tl.constexpr = HEADS * D
    head = tl.program_id(0) % HEADS
    t = tl.arange(0, TILE)
    cols = tl.arange(0, D)[None, :]
    b = tl.load(bias + head * (TILE * TILE) + t[:, None] * TILE + t[None, :])
    factor = tl.load(scale + head)
    for window in range(tl.program_id(0) // HEADS, windows, tl.num_programs(0) // HEADS):
        y, x, region = _tokens(t, window, H, W, n_h, n_w, MH, MW, SH, SW)
        inside = t < N
        real = (y < H) & (x < W) & inside
        rows = y * W + x
        first = (window // (n_h * n_w)).to(tl.int64) * H * W
        base = qkv + first * (3 * C)
        q = _load(base, pad, rows, real, inside, head * D, C, D, HAS_PAD)
        k = _load(base, pad, rows, real, inside, C + head * D, C, D, HAS_PAD)
        v = _load(base, pad, rows, real, inside, 2 * C + head * D, C, D, HAS_PAD)
        if COSINE:
            unit_q, _q_factor = _unit(q)
            unit_k, _k_factor = _unit(k)
            q = unit_q.to(v.dtype)
            k = unit_k.to(v.dtype)
        logits = _logits(q, k, b, factor, region, region, SH + SW > 0, PRECISION)
        weights = tl.exp2(logits - tl.max(logits, 1)[:, None])
        values = _product(weights.to(v.dtype), v, PRECISION) / tl.sum(weights, 1)[:, None]
        to = out + first * C + (rows * C + head * D)[:, None] + cols
        tl.store(to, values.to(out.dtype.element_ty), mask=real[:, None])


@triton.jit(do_not_specialize=['H', 'W', 'n_h', 'n_w', 'windows'])
def window_backward(
    qkv, pad, bias, scale, d_out, d_qkv, d_pad, d_bias, d_scale, H, W, n_h, n_w, windows,
    HEADS: tl.constexpr, D: tl.constexpr, MH: tl.constexpr, MW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    TILE: tl.constexpr, HAS_PAD: tl.constexpr, PRECISION: tl.constexpr, COSINE: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_SCALE: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of :func:`window_forward`, recomputing its weights.

    Sums over windows are written per program and added up afterwards in a fixed order, without atomic operations.

    Args:
        qkv: see :func:`window_forward`, as for the arguments not listed here.
        d_out: ``[B, H, W, HEADS * D]``.
        d_qkv: ``[B, H, W, 3 * HEADS * D]``.
        d_pad: gradients of keys and values of each padded token, ``[B, padded tokens, 2 * HEADS * D]``, written if
            ``HAS_PAD``. The gradient of their queries is zero, as their outputs are unused.
        d_bias: ``[programs // HEADS, HEADS, TILE, TILE]`` float32, written if ``HAS_BIAS``.
        d_scale: ``[programs // HEADS, HEADS]`` float32 in units of the scale itself, written if ``HAS_SCALE``.
    """
    N: tl.constexpr = MH * MW
    C: tl.constexpr = HEADS * D
    program = tl.program_id(0)
    head = program % HEADS
    t = tl.arange(0, TILE)
    cols = tl.arange(0, D)[None, :]
    square = t[:, None] * TILE + t[None, :]
    b = tl.load(bias + head * (TILE * TILE) + square)
    factor = tl.load(scale + head)
    bias_sum = tl.zeros((TILE, TILE), tl.float32)
    scale_sum = tl.zeros((TILE,), tl.float32)
    for window in range(program // HEADS, windows, tl.num_programs(0) // HEADS):
        y, x, region = _tokens(t, window, H, W, n_h, n_w, MH, MW, SH, SW)
        inside = t < N
        real = (y < H) & (x < W) & inside
        rows = y * W + x
        image = (window // (n_h * n_w)).to(tl.int64)
        first = image * H * W
        base = qkv + first * (3 * C)
        q = _load(base, pad, rows, real, inside, head * D, C, D, HAS_PAD)
        k = _load(base, pad, rows, real, inside, C + head * D, C, D, HAS_PAD)
        v = _load(base, pad, rows, real, inside, 2 * C + head * D, C, D, HAS_PAD)
        source = d_out + first * C + (rows * C + head * D)[:, None] + cols
        grad = tl.load(source, mask=real[:, None], other=0.0)
        if COSINE:
            unit_q, q_factor = _unit(q)
            unit_k, k_factor = _unit(k)
            q = unit_q.to(v.dtype)
            k = unit_k.to(v.dtype)
        logits = _logits(q, k, b, factor, region, region, SH + SW > 0, PRECISION)
        weights = tl.exp2(logits - tl.max(logits, 1)[:, None])
        weights = weights / tl.sum(weights, 1)[:, None]
        d_weights = _product(grad, tl.trans(v), PRECISION)
        d_logits = weights * (d_weights - tl.sum(weights * d_weights, 1)[:, None])
        if HAS_BIAS:
            bias_sum += d_logits
        low = d_logits.to(k.dtype)
        d_v = _product(tl.trans(weights.to(k.dtype)), grad, PRECISION)
        d_q = _product(low, k, PRECISION)
        d_k = _product(tl.trans(low), q, PRECISION)
        if HAS_SCALE:
            scale_sum += tl.sum(d_q * q.to(tl.float32), 1)
        if COSINE:  # the gradient of a normalized vector is orthogonal to the vector
            d_q = (d_q - q.to(tl.float32) * tl.sum(d_q * q.to(tl.float32), 1)[:, None]) * q_factor[:, None]
            d_k = (d_k - k.to(tl.float32) * tl.sum(d_k * k.to(tl.float32), 1)[:, None]) * k_factor[:, None]
        d_q = d_q * (factor * LN2)
        d_k = d_k * (factor * LN2)
        to = d_qkv + first * (3 * C) + (rows * (3 * C) + head * D)
        tl.store(to[:, None] + cols, d_q.to(k.dtype), mask=real[:, None])
        to += C
        if HAS_PAD:
            # Number the padded tokens, those at the right of real rows first: each has a row in d_pad.
            right = n_w * MW - W
            number = tl.where(y < H, y * right + x - W, H * right + (y - H) * (n_w * MW) + x)
            spare = d_pad + image * (n_h * MH * n_w * MW - H * W) * (2 * C) + number * (2 * C) + head * D
            to = tl.multiple_of(tl.where(real, to, spare), 16)
            real = inside
        tl.store(to[:, None] + cols, d_k.to(k.dtype), mask=real[:, None])
        tl.store(to[:, None] + C + cols, d_v.to(k.dtype), mask=real[:, None])
    if HAS_BIAS:
        tl.store(d_bias + program.to(tl.int64) * (TILE * TILE) + square, bias_sum)
    if HAS_SCALE:
        tl.store(d_scale + program, tl.sum(scale_sum, 0))


@triton.jit(do_not_specialize=['H', 'W', 'n_h', 'n_w'])
def large_window_forward(
    qkv, pad, bias, scale, out, H, W, n_h, n_w,
    HEADS: tl.constexpr, D: tl.constexpr, MH: tl.constexpr, MW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    TILE: tl.constexpr, HAS_PAD: tl.constexpr, PRECISION: tl.constexpr, COSINE: tl.constexpr,
):  # fmt: skip
    """Attend within windows of several tiles: a program has ``TILE`` queries and an online softmax over tiles of keys.

    The arguments are those of :func:`window_forward`, except that ``bias`` is ``[HEADS, TILES * TILE, TILES * TILE]``
    of any floating dtype.
    """
    N: tl.constexpr = MH * MW
    C: tl.constexpr = HEADS * D
    TILES: tl.constexpr = (N + TILE - 1) // TILE
    tile = tl.program_id(0) % TILES
    head = tl.program_id(0) // TILES % HEADS
    window = tl.program_id(0) // (TILES * HEADS)
    first = (window // (n_h * n_w)).to(tl.int64) * H * W
    base = qkv + first * (3 * C)
    t = tile * TILE + tl.arange(0, TILE)
    y, x, region = _tokens(t, window, H, W, n_h, n_w, MH, MW, SH, SW)
    real = (y < H) & (x < W) & (t < N)
    rows = y * W + x
    q = _load(base, pad, rows, real, t < N, head * D, C, D, HAS_PAD)
    if COSINE:
        unit_q, _q_factor = _unit(q)
        q = unit_q.to(q.dtype)
    factor = tl.load(scale + head)
    top = tl.full((TILE,), float('-inf'), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    values = tl.zeros((TILE, D), tl.float32)
    bias_rows = bias + head * (TILES * TILE * TILES * TILE) + t[:, None] * (TILES * TILE)
    for j in range(TILES):
        key = j * TILE + tl.arange(0, TILE)
        key_y, key_x, key_region = _tokens(key, window, H, W, n_h, n_w, MH, MW, SH, SW)
        key_real = (key_y < H) & (key_x < W) & (key < N)
        key_rows = key_y * W + key_x
        k = _load(base, pad, key_rows, key_real, key < N, C + head * D, C, D, HAS_PAD)
        if COSINE:
            unit_k, _k_factor = _unit(k)
            k = unit_k.to(k.dtype)
        v = _load(base, pad, key_rows, key_real, key < N, 2 * C + head * D, C, D, HAS_PAD)
        b = tl.load(bias_rows + key[None, :])
        logits = _logits(q, k, b, factor, region, key_region, SH + SW > 0, PRECISION)
        new_top = tl.maximum(top, tl.max(logits, 1))
        weights = tl.exp2(logits - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(weights, 1)
        values = values * shrink[:, None] + _product(weights.to(v.dtype), v, PRECISION)
        top = new_top
    to = out + first * C + (rows * C + head * D)[:, None] + tl.arange(0, D)[None, :]
    tl.store(to, (values / total[:, None]).to(out.dtype.element_ty), mask=real[:, None])
