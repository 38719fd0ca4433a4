// Matrix products: tiled in f32, and tensor cores by inline PTX with a cp.async pipeline.
#include <cuda_fp16.h>
#include <cstdint>

// c [m, n] = a [m, k] b [k, n], each thread 4 by 4 of a tile of 64 by 64.
extern "C" __global__ void __launch_bounds__(256) sgemm(const float *a, const float *b, float *c, int m, int n, int k) {
    __shared__ float as[16][64], bs[16][64];
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    int row0 = blockIdx.y * 64, col0 = blockIdx.x * 64;
    float acc[4][4] = {};
    for (int k0 = 0; k0 < k; k0 += 16) {
        for (int i = threadIdx.x; i < 1024; i += 256) {
            int r = i / 16, x = i % 16;
            as[x][r] = row0 + r < m && k0 + x < k ? a[(row0 + r) * k + k0 + x] : 0.0f;
            r = i / 64, x = i % 64;
            bs[r][x] = k0 + r < k && col0 + x < n ? b[(k0 + r) * n + col0 + x] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int x = 0; x < 16; x++) {
            float4 av = *(const float4 *)&as[x][ty * 4], bv = *(const float4 *)&bs[x][tx * 4];
            float ar[4] = {av.x, av.y, av.z, av.w}, br[4] = {bv.x, bv.y, bv.z, bv.w};
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) acc[i][j] += ar[i] * br[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int row = row0 + ty * 4 + i, col = col0 + tx * 4 + j;
            if (row < m && col < n) c[row * n + col] = acc[i][j];
        }
}

__device__ inline uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

__device__ inline void copy16(uint32_t to, const void *from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0));
}

// c [m, n] = a [m, k] b [n, k]^T in f16 with f32 sums; k and rows of 16 bytes. Tiles of 64 by 64 by 32, three stages.
extern "C" __global__ void __launch_bounds__(128) gemm_mma(const __half *a, const __half *b, float *c, int m, int n, int k) {
    __shared__ __align__(128) __half as[3][64 * 32], bs[3][64 * 32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int row0 = blockIdx.y * 64, col0 = blockIdx.x * 64;
    auto at = [](int row, int chunk) { return row * 32 + ((chunk ^ (row >> 1 & 3)) * 8); };
    auto load = [&](int stage, int k0) {
        for (int i = threadIdx.x; i < 256; i += 128) {
            int row = i / 4, chunk = i % 4;
            bool in_k = k0 + chunk * 8 < k;
            bool ina = in_k && row0 + row < m, inb = in_k && col0 + row < n;
            copy16(shared_address(&as[stage][at(row, chunk)]), ina ? a + (row0 + row) * k + k0 + chunk * 8 : a, ina);
            copy16(shared_address(&bs[stage][at(row, chunk)]), inb ? b + (col0 + row) * k + k0 + chunk * 8 : b, inb);
        }
        asm volatile("cp.async.commit_group;");
    };
    float acc[8][4] = {};
    int steps = (k + 31) / 32;
    load(0, 0);
    load(1, 32);
    for (int step = 0; step < steps; step++) {
        asm volatile("cp.async.wait_group 1;");
        __syncthreads();
        load((step + 2) % 3, (step + 2) * 32);
        int stage = step % 3;
        for (int half = 0; half < 2; half++) {
            uint32_t x[4];
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                         : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                         : "r"(shared_address(&as[stage][at(warp * 16 + lane % 16, half * 2 + lane / 16)])));
            for (int tile = 0; tile < 8; tile += 2) {
                uint32_t y[4];
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                             : "=r"(y[0]), "=r"(y[1]), "=r"(y[2]), "=r"(y[3])
                             : "r"(shared_address(
                                 &bs[stage][at(tile * 8 + lane % 8 + lane / 16 * 8, half * 2 + lane / 8 % 2)])));
                for (int j = 0; j < 2; j++) {
                    float *d = acc[tile + j];
                    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                                 : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[2 * j]), "r"(y[2 * j + 1]));
                }
            }
        }
    }
    for (int tile = 0; tile < 8; tile++)
        for (int e = 0; e < 4; e++) {
            int row = row0 + warp * 16 + lane / 4 + e / 2 * 8, col = col0 + tile * 8 + lane % 4 * 2 + e % 2;
            if (row < m && col < n) c[row * n + col] = acc[tile][e];
        }
    asm volatile("cp.async.wait_all;");
}
