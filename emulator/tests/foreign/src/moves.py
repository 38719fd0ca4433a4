"""Kernels that move and change elements."""

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def transpose(x_ptr, y_ptr, M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    x = tl.load(x_ptr + offs_m[:, None] * N + offs_n[None, :], mask=(offs_m[:, None] < M) & (offs_n[None, :] < N))
    tl.store(y_ptr + offs_n[:, None] * M + offs_m[None, :], x.T, mask=(offs_n[:, None] < N) & (offs_m[None, :] < M))


@triton.jit
def embedding(id_ptr, table_ptr, y_ptr, D, BLOCK: tl.constexpr):
    row = tl.load(id_ptr + tl.program_id(0))
    for off in range(0, D, BLOCK):
        cols = off + tl.arange(0, BLOCK)
        x = tl.load(table_ptr + row * D + cols, mask=cols < D)
        tl.store(y_ptr + tl.program_id(0) * D + cols, x, mask=cols < D)


@triton.jit
def gather_columns(x_ptr, index_ptr, y_ptr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """y[i, j] = x[i, index[i, j]] inside a tile."""
    offs = tl.arange(0, BLOCK_M)[:, None] * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    x = tl.load(x_ptr + offs)
    index = tl.load(index_ptr + offs)
    tl.store(y_ptr + offs, tl.gather(x, index, 1))


@triton.jit
def dropout(x_ptr, y_ptr, n, p, seed, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    x = tl.load(x_ptr + offs, mask=mask)
    keep = tl.rand(seed, offs) > p
    tl.store(y_ptr + offs, tl.where(keep, x / (1 - p), 0.0), mask=mask)


@triton.jit
def gelu_erf(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    x = tl.load(x_ptr + offs, mask=mask).to(tl.float32)
    y = 0.5 * x * (1 + libdevice.erf(x * 0.7071067811865476)) + libdevice.tanh(x) * tl.sin(x)
    tl.store(y_ptr + offs, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def quantize_fp8(x_ptr, y_ptr, scale_ptr, N, BLOCK: tl.constexpr):
    """Rows in e4m3 with a scale each."""
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * N + cols, mask=cols < N, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(x)), 1e-10) / 448.0
    tl.store(scale_ptr + row, scale)
    tl.store(y_ptr + row * N + cols, (x / scale).to(tl.float8e4nv), mask=cols < N)


@triton.jit
def conv2d(x_ptr, w_ptr, y_ptr, B, H, W, OC, OH, OW, C: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
           STRIDE: tl.constexpr, PAD: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Implicit GEMM: x [B, H, W, C], w [R, S, C, OC], y [B, OH, OW, OC]."""
    pixel = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    oc = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    c = tl.arange(0, C)
    b = pixel // (OH * OW)
    oy = pixel // OW % OH
    ox = pixel % OW
    inside = pixel < B * OH * OW
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for rs in range(R * S):
        y = oy * STRIDE - PAD + rs // S
        x = ox * STRIDE - PAD + rs % S
        seen = inside & (y >= 0) & (y < H) & (x >= 0) & (x < W)
        pixels = tl.load(x_ptr + (((b * H + y) * W + x) * C)[:, None] + c[None, :], mask=seen[:, None], other=0.0)
        filters = tl.load(w_ptr + (rs * C + c)[:, None] * OC + oc[None, :], mask=oc[None, :] < OC, other=0.0)
        acc = tl.dot(pixels, filters, acc)
    tl.store(y_ptr + pixel[:, None] * OC + oc[None, :], acc.to(tl.float16),
             mask=inside[:, None] & (oc[None, :] < OC))
