// TMA, mbarriers and wgmma by hand.
#include <cuda.h>
#include <cuda_bf16.h>
#include <cstdint>

__device__ inline uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

__device__ inline void wait(uint32_t barrier, uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra over;\nbra again;\nover:\n}"
        ::"r"(barrier), "r"(parity) : "memory");
}

__device__ inline void init(uint32_t barrier, uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count));
}

__device__ inline void arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ inline void expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ inline void load_2d(uint32_t to, const CUtensorMap *map, int x, int y, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
        "l"(map), "r"(x), "r"(y), "r"(barrier)
        : "memory");
}

__device__ inline void store_2d(const CUtensorMap *map, int x, int y, uint32_t from) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map), "r"(x), "r"(y),
                 "r"(from)
                 : "memory");
}

// Every tile of 32 by 64 floats times two plus its row, through shared memory in and out.
extern "C" __global__ void __launch_bounds__(128)
    tma_scale(const __grid_constant__ CUtensorMap in, const __grid_constant__ CUtensorMap out) {
    __shared__ __align__(128) float tile[32][64];
    __shared__ __align__(8) uint64_t full;
    uint32_t barrier = shared_address(&full);
    int x = blockIdx.x * 64, y = blockIdx.y * 32;
    if (threadIdx.x == 0) {
        init(barrier, 1);
        asm volatile("fence.mbarrier_init.release.cluster;");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        expect(barrier, sizeof(tile));
        load_2d(shared_address(tile), &in, x, y, barrier);
    }
    __syncthreads();
    wait(barrier, 0);
    for (int i = threadIdx.x; i < 32 * 64; i += 128) tile[i / 64][i % 64] = 2.0f * tile[i / 64][i % 64] + (float)(y + i / 64);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        store_2d(&out, x, y, shared_address(tile));
        asm volatile("cp.async.bulk.commit_group;");
        asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    }
}

__device__ inline uint64_t descriptor(uint32_t address) {
    // K-major with 128-byte swizzle: eight rows of 128 bytes are 1024 bytes.
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

__device__ inline void wgmma_64x64x16(float (&d)[32], uint64_t a, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, 1, 1, 1, 0, 0;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
          "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]),
          "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]),
          "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
        : "l"(a), "l"(b));
}

// c [m, n] = a [m, k] b [n, k]^T: warp group 0 loads, 1 and 2 multiply 64 rows each. Tiles of 128 by 64 by 64, 3 stages.
extern "C" __global__ void __launch_bounds__(384, 1)
    wgmma_gemm(const __grid_constant__ CUtensorMap ma, const __grid_constant__ CUtensorMap mb, float *c, int m, int n, int k) {
    extern __shared__ __align__(1024) unsigned char memory[];
    const int STAGES = 3, A = 128 * 64 * 2, B = 64 * 64 * 2;
    uint32_t tiles = shared_address(memory);
    uint32_t full = tiles + STAGES * (A + B), empty = full + 8 * STAGES;
    int group = threadIdx.x / 128, steps = (k + 63) / 64;
    int row0 = blockIdx.y * 128, col0 = blockIdx.x * 64;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            init(full + 8 * s, 1);
            init(empty + 8 * s, 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    if (group == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 0) {
            for (int step = 0; step < steps; step++) {
                int s = step % STAGES;
                wait(empty + 8 * s, (step / STAGES & 1) ^ 1);
                expect(full + 8 * s, A + B);
                load_2d(tiles + s * (A + B), &ma, step * 64, row0, full + 8 * s);
                load_2d(tiles + s * (A + B) + A, &mb, step * 64, col0, full + 8 * s);
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        float acc[32];
        for (int i = 0; i < 32; i++) acc[i] = 0.0f;
        for (int step = 0; step < steps; step++) {
            int s = step % STAGES;
            wait(full + 8 * s, step / STAGES & 1);
            uint32_t a = tiles + s * (A + B) + (group - 1) * (A / 2), b = tiles + s * (A + B) + A;
            asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
            for (int x = 0; x < 4; x++) wgmma_64x64x16(acc, descriptor(a + 32 * x), descriptor(b + 32 * x));
            asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
            if (threadIdx.x % 128 == 0) arrive(empty + 8 * s);
        }
        int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
        for (int i = 0; i < 32; i++) {
            int row = row0 + (group - 1) * 64 + warp * 16 + lane / 4 + (i / 2 % 2) * 8, col = col0 + i / 4 * 8 + lane % 4 * 2 + i % 2;
            if (row < m && col < n) c[row * n + col] = acc[i];
        }
    }
}
