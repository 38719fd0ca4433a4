// Clusters: a histogram whose bins are spread over the shared memory of a cluster's blocks.
#include <cooperative_groups.h>

namespace cg = cooperative_groups;

extern "C" __global__ void __cluster_dims__(4, 1, 1) __launch_bounds__(128)
    histogram_cluster(const int *x, int *out, int bins_per_block, int n) {
    extern __shared__ int bins[];
    auto cluster = cg::this_cluster();
    for (int i = threadIdx.x; i < bins_per_block; i += blockDim.x) bins[i] = 0;
    cluster.sync();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        int bin = x[i];
        int *remote = cluster.map_shared_rank(bins, bin / bins_per_block);
        atomicAdd(remote + bin % bins_per_block, 1);
    }
    cluster.sync();
    int *part = out + cluster.block_rank() * bins_per_block;
    for (int i = threadIdx.x; i < bins_per_block; i += blockDim.x) atomicAdd(&part[i], bins[i]);
}

// Every block reads the sums of the others and keeps the largest.
extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(64) cluster_max(const float *x, float *out) {
    __shared__ float mine;
    auto cluster = cg::this_cluster();
    float v = x[blockIdx.x * 64 + threadIdx.x];
    __shared__ float all[64];
    all[threadIdx.x] = v;
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0;
        for (int i = 0; i < 64; i++) sum += all[i];
        mine = sum;
    }
    cluster.sync();
    if (threadIdx.x == 0) {
        float top = mine;
        for (unsigned r = 0; r < cluster.num_blocks(); r++) top = fmaxf(top, *cluster.map_shared_rank(&mine, r));
        out[blockIdx.x] = top;
    }
    cluster.sync();
}
