"""Reductions, scans, histograms, sorts and atomics."""

import triton
import triton.language as tl


@triton.jit
def reduce_sum(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out += sum of x: a block's sum is one atomic."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < n, other=0)
    tl.atomic_add(out_ptr, tl.sum(x))


@triton.jit
def reduce_axes(x_ptr, row_max, row_arg, col_sum, M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Largest value and its place in each row, sums of the columns, of a matrix that fits a block."""
    rows = tl.arange(0, BLOCK_M)
    cols = tl.arange(0, BLOCK_N)
    mask = (rows[:, None] < M) & (cols[None, :] < N)
    x = tl.load(x_ptr + rows[:, None] * N + cols[None, :], mask=mask, other=float("-inf"))
    top, where = tl.max(x, axis=1, return_indices=True)
    tl.store(row_max + rows, top, mask=rows < M)
    tl.store(row_arg + rows, where, mask=rows < M)
    tl.store(col_sum + cols, tl.sum(tl.where(mask, x, 0.0), axis=0), mask=cols < N)


@triton.jit
def histogram(x_ptr, out_ptr, n, BINS: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    x = tl.load(x_ptr + offs, mask=mask, other=0)
    counts = tl.histogram(x, BINS, mask=mask)
    tl.atomic_add(out_ptr + tl.arange(0, BINS), counts)


@triton.jit
def cumsum(x_ptr, y_ptr, z_ptr, N, BLOCK: tl.constexpr):
    """Sums of each row from the left in y, from the right in z."""
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * N + cols, mask=cols < N, other=0)
    tl.store(y_ptr + row * N + cols, tl.cumsum(x, 0), mask=cols < N)
    tl.store(z_ptr + row * N + cols, tl.cumsum(x, 0, reverse=True), mask=cols < N)


@triton.jit
def linear_step(a1, b1, a2, b2):
    return a1 * a2, b1 * a2 + b2


@triton.jit
def linear_recurrence(a_ptr, b_ptr, h_ptr, T, D, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    """h[t] = a[t] * h[t - 1] + b[t] of every channel, [T, D], as state-space models scan."""
    t = tl.arange(0, BLOCK_T)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    offs = t[:, None] * D + d[None, :]
    mask = (t[:, None] < T) & (d[None, :] < D)
    a = tl.load(a_ptr + offs, mask=mask, other=1.0)
    b = tl.load(b_ptr + offs, mask=mask, other=0.0)
    _, h = tl.associative_scan((a, b), 0, linear_step)
    tl.store(h_ptr + offs, h, mask=mask)


@triton.jit
def sort_rows(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * N + cols, mask=cols < N, other=2147483647)
    tl.store(y_ptr + row * N + cols, tl.sort(x), mask=cols < N)


@triton.jit
def topk_rows(x_ptr, y_ptr, N, K: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * N + cols, mask=cols < N, other=-float("inf"))
    tl.store(y_ptr + row * K + tl.arange(0, K), tl.topk(x, K))


@triton.jit
def atomics(x_ptr, index_ptr, sum_f16, max_f32, min_i32, or_b32, xor_b32, count_i64, n, BLOCK: tl.constexpr):
    """Every kind of atomic, by a table of indices."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    x = tl.load(x_ptr + offs, mask=mask, other=0)
    where = tl.load(index_ptr + offs, mask=mask, other=0)
    tl.atomic_add(sum_f16 + where, (x % 8).to(tl.float16), mask=mask)
    tl.atomic_max(max_f32 + where, x.to(tl.float32), mask=mask)
    tl.atomic_min(min_i32 + where, x, mask=mask)
    tl.atomic_or(or_b32 + where, 1 << (x & 31), mask=mask)
    tl.atomic_xor(xor_b32 + where, x, mask=mask)
    tl.atomic_add(count_i64 + where, tl.full([BLOCK], 1, tl.int64), mask=mask, sem="relaxed")


@triton.jit
def lock_accumulate(x_ptr, sum_ptr, count_ptr, lock_ptr, N, BARRIER: tl.constexpr,
                    BLOCK: tl.constexpr):
    """Rows are added to one row under a spin lock. Without BARRIER as in the layer norm tutorial, where the first warp
    may set the count before another warp has read it."""
    cols = tl.arange(0, BLOCK)
    mask = cols < N
    x = tl.load(x_ptr + tl.program_id(0) * N + cols, mask=mask, other=0.0)
    while tl.atomic_cas(lock_ptr, 0, 1) == 1:
        pass
    count = tl.load(count_ptr)
    if BARRIER:
        tl.debug_barrier()
    if count == 0:
        tl.atomic_xchg(count_ptr, 1)
    else:
        x += tl.load(sum_ptr + cols, mask=mask)
    tl.store(sum_ptr + cols, x, mask=mask)
    tl.debug_barrier()
    tl.atomic_xchg(lock_ptr, 0)
