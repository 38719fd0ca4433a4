// What lanes compute: votes, matches, double and half precision, random numbers, local arrays.
#include <cuda_fp16.h>

// Keeps the positive numbers: one atomic a warp.
extern "C" __global__ void __launch_bounds__(128) compact(const int *x, int *y, int *count, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int v = i < n ? x[i] : 0;
    unsigned keep = __ballot_sync(0xffffffffu, v > 0);
    int lane = threadIdx.x & 31;
    int base = 0;
    if (lane == 0 && keep) base = atomicAdd(count, __popc(keep));
    base = __shfl_sync(0xffffffffu, base, 0);
    if (v > 0) y[base + __popc(keep & ((1u << lane) - 1))] = v;
}

// Adds within groups of equal keys first: match, leader, one atomic a group.
extern "C" __global__ void __launch_bounds__(128) match_histogram(const int *keys, int *counts, int *uniform, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    bool inside = i < n;
    unsigned active = __ballot_sync(0xffffffffu, inside);
    if (inside) {
        int key = keys[i];
        unsigned peers = __match_any_sync(active, key);
        if ((threadIdx.x & 31) == __ffs(peers) - 1) atomicAdd(&counts[key], __popc(peers));
        int all = 0;
        __match_all_sync(active, key, &all);
        unsigned low = __reduce_min_sync(active, (unsigned)key), high = __reduce_max_sync(active, (unsigned)key);
        if ((threadIdx.x & 31) == 0) uniform[i / 32] = all * 2 + (low == high);
    }
}

extern "C" __global__ void __launch_bounds__(64) nbody(const double4_16a *bodies, double3 *force, int n, double soft) {
    __shared__ double4_16a tile[64];
    int i = blockIdx.x * 64 + threadIdx.x;
    double4_16a me = i < n ? bodies[i] : make_double4_16a(0, 0, 0, 0);
    double3 f = make_double3(0, 0, 0);
    for (int first = 0; first < n; first += 64) {
        tile[threadIdx.x] = first + threadIdx.x < n ? bodies[first + threadIdx.x] : make_double4_16a(0, 0, 0, 0);
        __syncthreads();
        for (int j = 0; j < 64; j++) {
            double dx = tile[j].x - me.x, dy = tile[j].y - me.y, dz = tile[j].z - me.z;
            double inverse = rsqrt(dx * dx + dy * dy + dz * dz + soft);
            double s = tile[j].w * inverse * inverse * inverse;
            f.x += dx * s;
            f.y += dy * s;
            f.z += dz * s;
        }
        __syncthreads();
    }
    if (i < n) force[i] = f;
}

extern "C" __global__ void __launch_bounds__(128) half2_axpy(const __half2 *x, __half2 *y, float a, int pairs) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= pairs) return;
    __half2 scale = __float2half2_rn(a);
    __half2 v = __hfma2(scale, x[i], y[i]);
    y[i] = __hmax2(v, __float2half2_rn(0.0f));
}

// xorshift128 a thread: the third number, and the estimate of pi from points of a block.
extern "C" __global__ void __launch_bounds__(128) monte_carlo(unsigned int *third, unsigned int *inside, unsigned int seed, int points) {
    unsigned int t = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned int x = seed ^ (t * 2654435761u), y = 362436069u, z = 521288629u, w = 88675123u;
    unsigned int hits = 0;
    for (int i = 0; i < points; i++) {
        float p[2];
        for (int k = 0; k < 2; k++) {
            unsigned int s = x ^ (x << 11);
            x = y;
            y = z;
            z = w;
            w = w ^ (w >> 19) ^ s ^ (s >> 8);
            if (i == 1 && k == 0) third[t] = w;
            p[k] = (float)(w >> 8) * (1.0f / 16777216.0f);
        }
        hits += p[0] * p[0] + p[1] * p[1] < 1.0f;
    }
    atomicAdd(inside, hits);
}

// The median of each window of 9 by an insertion sort of a local array, read by a computed index.
extern "C" __global__ void __launch_bounds__(64) median(const float *x, float *y, const int *rank, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float window[9];
    for (int k = 0; k < 9; k++) {
        float v = x[min(max(i + k - 4, 0), n - 1)];
        int at = k;
        while (at > 0 && window[at - 1] > v) {
            window[at] = window[at - 1];
            at--;
        }
        window[at] = v;
    }
    y[i] = window[rank[i]];
}

// Powers, logarithms and trigonometry of the library, fast and exact.
extern "C" __global__ void __launch_bounds__(64) library(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    y[i] = powf(fabsf(v) + 0.5f, 1.7f) + sinf(20.0f * v) + log1pf(fabsf(v)) + erff(v) + __expf(v) + fmodf(v, 0.3f) + cbrtf(v);
}
