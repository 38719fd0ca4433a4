// libcu++ barriers and pipelines over asynchronous copies.
#include <cooperative_groups.h>
#include <cuda/barrier>
#include <cuda/pipeline>

#pragma nv_diag_suppress static_var_with_dynamic_init

namespace cg = cooperative_groups;

// y[i] = x[i] + sum of the tile before it, tile by tile, with two stages in flight.
extern "C" __global__ void __launch_bounds__(128) pipelined(const int4 *x, int4 *y, int tiles) {
    __shared__ int4 stage[2][128];
    auto pipe = cuda::make_pipeline();
    auto fetch = [&](int tile) {
        pipe.producer_acquire();
        if (tile < tiles) cuda::memcpy_async(&stage[tile % 2][threadIdx.x], &x[tile * 128 + threadIdx.x], cuda::aligned_size_t<16>(16), pipe);
        pipe.producer_commit();
    };
    fetch(0);
    int before = 0;
    for (int tile = 0; tile < tiles; tile++) {
        fetch(tile + 1);
        cuda::pipeline_consumer_wait_prior<1>(pipe);
        __syncthreads();
        int4 mine = stage[tile % 2][threadIdx.x], next = stage[tile % 2][(threadIdx.x + 1) % 128];
        y[tile * 128 + threadIdx.x] = make_int4(mine.x + before, mine.y + next.x, mine.z + next.y, mine.w + next.z);
        before += mine.x;
        __syncthreads();
        pipe.consumer_release();
    }
}

// Halves of a block hand tiles over by two barriers.
extern "C" __global__ void __launch_bounds__(128) producer_consumer(const float *x, float *y, int tiles) {
    __shared__ float tile[64];
    __shared__ cuda::barrier<cuda::thread_scope_block> full, empty;
    if (threadIdx.x == 0) {
        init(&full, 128);
        init(&empty, 128);
    }
    __syncthreads();
    int lane = threadIdx.x % 64;
    if (threadIdx.x < 64) {
        for (int t = 0; t < tiles; t++) {
            if (t) empty.arrive_and_wait();
            tile[lane] = 2.0f * x[t * 64 + lane];
            (void)full.arrive();
        }
    } else {
        for (int t = 0; t < tiles; t++) {
            full.arrive_and_wait();
            y[t * 64 + lane] = tile[63 - lane];
            if (t + 1 < tiles) (void)empty.arrive();
        }
    }
}

// A whole block copies by memcpy_async of the group.
extern "C" __global__ void __launch_bounds__(64) group_copy(const float *x, float *y, int n) {
    extern __shared__ float buffer[];
    auto block = cg::this_thread_block();
    __shared__ cuda::barrier<cuda::thread_scope_block> bar;
    if (block.thread_rank() == 0) init(&bar, block.size());
    block.sync();
    cuda::memcpy_async(block, buffer, x + blockIdx.x * n, sizeof(float) * n, bar);
    bar.arrive_and_wait();
    for (int i = block.thread_rank(); i < n; i += block.size()) y[blockIdx.x * n + i] = buffer[n - 1 - i];
}
