// Reductions and scans of one dimension.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>

namespace cg = cooperative_groups;

__device__ float warp_sum(float v) {
    for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_down_sync(0xffffffffu, v, offset);
    return v;
}

// out[block] = sum of the block's share of x.
extern "C" __global__ void __launch_bounds__(256) reduce_shuffle(const float *x, float *out, int n) {
    __shared__ float partial[8];
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    sum = warp_sum(sum);
    if ((threadIdx.x & 31) == 0) partial[threadIdx.x >> 5] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0.0f;
        sum = warp_sum(sum);
        if (threadIdx.x == 0) out[blockIdx.x] = sum;
    }
}

// The tree of the classic sample, in shared memory.
extern "C" __global__ void __launch_bounds__(128) reduce_tree(const int *x, int *out, int n) {
    extern __shared__ int tree[];
    int i = blockIdx.x * (blockDim.x * 2) + threadIdx.x;
    int sum = i < n ? x[i] : 0;
    if (i + blockDim.x < n) sum += x[i + blockDim.x];
    tree[threadIdx.x] = sum;
    __syncthreads();
    for (unsigned stride = blockDim.x / 2; stride > 0; stride >>= 1) {
        if (threadIdx.x < stride) tree[threadIdx.x] += tree[threadIdx.x + stride];
        __syncthreads();
    }
    if (threadIdx.x == 0) atomicAdd(out, tree[0]);
}

extern "C" __global__ void __launch_bounds__(128) reduce_groups(const int *x, int *sum, int *top, int n) {
    auto block = cg::this_thread_block();
    auto warp = cg::tiled_partition<32>(block);
    int i = blockIdx.x * blockDim.x + block.thread_rank();
    int value = i < n ? x[i] : 0;
    int total = cg::reduce(warp, value, cg::plus<int>());
    int largest = cg::reduce(warp, value, cg::greater<int>());
    if (warp.thread_rank() == 0) {
        atomicAdd(sum, total);
        atomicMax(top, largest);
    }
}

__device__ unsigned int blocks_done = 0;

// The last block to finish adds what all of them left behind.
extern "C" __global__ void __launch_bounds__(128) reduce_last_block(const float *x, volatile float *partial, float *out, int n) {
    __shared__ float warps[4];
    __shared__ bool last;
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    sum = warp_sum(sum);
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x >> 5] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = warps[0] + warps[1] + warps[2] + warps[3];
        __threadfence();
        last = atomicInc(&blocks_done, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float total = 0;
        for (unsigned i = 0; i < gridDim.x; i++) total += partial[i];
        out[0] = total;
    }
}

// Inclusive scan of a block: warps by shuffles, then their sums.
extern "C" __global__ void __launch_bounds__(256) block_scan(const int *x, int *y, int n) {
    __shared__ int sums[8];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int v = i < n ? x[i] : 0;
    for (int offset = 1; offset < 32; offset <<= 1) {
        int below = __shfl_up_sync(0xffffffffu, v, offset);
        if (lane >= offset) v += below;
    }
    if (lane == 31) sums[warp] = v;
    __syncthreads();
    if (warp == 0) {
        int s = lane < 8 ? sums[lane] : 0;
        for (int offset = 1; offset < 8; offset <<= 1) {
            int below = __shfl_up_sync(0xffffffffu, s, offset);
            if (lane >= offset) s += below;
        }
        if (lane < 8) sums[lane] = s;
    }
    __syncthreads();
    if (warp > 0) v += sums[warp - 1];
    if (i < n) y[i] = v;
}

// Scan in shared memory by one warp that only __syncwarp orders.
extern "C" __global__ void __launch_bounds__(32) warp_scan_shared(const int *x, int *y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    s[t] = 0;
    s[t + 32] = x[blockIdx.x * 32 + t];
    __syncwarp();
    for (int offset = 1; offset < 32; offset <<= 1) {
        int below = s[t + 32 - offset];
        __syncwarp();
        s[t + 32] += below;
        __syncwarp();
    }
    y[blockIdx.x * 32 + t] = s[t + 32];
}

// Single-pass scan with decoupled look-back: a descriptor holds a flag (1: the block's sum, 2: the sum up to and with
// the block) above 32 bits of value. Blocks take numbers in the order they start.
extern "C" __global__ void __launch_bounds__(128) scan_lookback(const int *x, int *y, unsigned long long *state, unsigned int *ticket, int n) {
    __shared__ int sums[4];
    __shared__ unsigned int tile_shared;
    __shared__ int before_shared;
    if (threadIdx.x == 0) tile_shared = atomicAdd(ticket, 1u);
    __syncthreads();
    unsigned int tile = tile_shared;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int i = tile * blockDim.x + threadIdx.x;
    int v = i < n ? x[i] : 0;
    for (int offset = 1; offset < 32; offset <<= 1) {
        int below = __shfl_up_sync(0xffffffffu, v, offset);
        if (lane >= offset) v += below;
    }
    if (lane == 31) sums[warp] = v;
    __syncthreads();
    int mine = 0, total = 0;
    for (int w = 0; w < 4; w++) {
        if (w < warp) mine += sums[w];
        total += sums[w];
    }
    if (warp == 0) {
        int before = 0;
        if (tile == 0) {
            if (lane == 0) atomicExch(&state[0], (2ull << 32) | (unsigned)total);
        } else {
            if (lane == 0) atomicExch(&state[tile], (1ull << 32) | (unsigned)total);
            int look = (int)tile - 1 - lane;
            while (true) {
                unsigned long long seen = 2ull << 32;
                if (look >= 0)
                    do {
                        seen = *(volatile unsigned long long *)&state[look];
                    } while ((seen >> 32) == 0);
                unsigned whole = __ballot_sync(0xffffffffu, (seen >> 32) == 2);
                int nearest = whole ? __ffs(whole) - 1 : 31;
                int value = lane <= nearest ? (int)(unsigned)seen : 0;
                for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_xor_sync(0xffffffffu, value, offset);
                before += value;
                if (whole) break;
                look -= 32;
            }
            if (lane == 0) atomicExch(&state[tile], (2ull << 32) | (unsigned)(before + total));
        }
        if (lane == 0) before_shared = before;
    }
    __syncthreads();
    if (i < n) y[i] = v + mine + before_shared;
}
