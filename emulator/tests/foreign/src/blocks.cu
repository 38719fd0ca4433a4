// Shared memory, atomics and the memory model.
#include <cuda/atomic>

extern "C" __global__ void __launch_bounds__(256) histogram_shared(const unsigned char *x, unsigned int *out, int n) {
    __shared__ unsigned int bins[256];
    bins[threadIdx.x] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&bins[x[i]], 1u);
    __syncthreads();
    if (bins[threadIdx.x]) atomicAdd(&out[threadIdx.x], bins[threadIdx.x]);
}

extern "C" __global__ void __launch_bounds__(256) transpose_padded(const float *x, float *y, int rows, int cols) {
    __shared__ float tile[32][33];
    int col = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (col < cols && row + j < rows) tile[threadIdx.y + j][threadIdx.x] = x[(row + j) * cols + col];
    __syncthreads();
    col = blockIdx.y * 32 + threadIdx.x;
    row = blockIdx.x * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (col < rows && row + j < cols) y[(row + j) * rows + col] = tile[threadIdx.x][threadIdx.y + j];
}

// Sorts 512 keys a block with their payload.
extern "C" __global__ void __launch_bounds__(256) bitonic_sort(unsigned int *keys, unsigned int *values) {
    __shared__ unsigned int k[512], v[512];
    keys += blockIdx.x * 512;
    values += blockIdx.x * 512;
    for (int i = threadIdx.x; i < 512; i += 256) {
        k[i] = keys[i];
        v[i] = values[i];
    }
    for (int size = 2; size <= 512; size <<= 1) {
        for (int stride = size / 2; stride > 0; stride >>= 1) {
            __syncthreads();
            int at = 2 * threadIdx.x - (threadIdx.x & (stride - 1));
            bool up = (at & size) == 0;
            if ((k[at] > k[at + stride]) == up) {
                unsigned int t = k[at];
                k[at] = k[at + stride];
                k[at + stride] = t;
                t = v[at];
                v[at] = v[at + stride];
                v[at + stride] = t;
            }
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 512; i += 256) {
        keys[i] = k[i];
        values[i] = v[i];
    }
}

__constant__ float taps[2][5] = {{0.0625f, 0.25f, 0.375f, 0.25f, 0.0625f}, {-0.25f, -0.5f, 0.0f, 0.5f, 0.25f}};

// Rows of an image with taps of constant memory; the halo is clamped.
extern "C" __global__ void __launch_bounds__(128) stencil(const float *x, float *y, int width, int which) {
    __shared__ float line[128 + 4];
    const float *row = x + blockIdx.y * width;
    int at = blockIdx.x * 128 + threadIdx.x;
    line[threadIdx.x + 2] = row[min(at, width - 1)];
    if (threadIdx.x < 2) {
        line[threadIdx.x] = row[max(at - 2, 0)];
        line[threadIdx.x + 130] = row[min(at + 128, width - 1)];
    }
    __syncthreads();
    if (at >= width) return;
    float sum = 0;
    for (int t = 0; t < 5; t++) sum = fmaf(taps[which][t], line[threadIdx.x + t], sum);
    y[blockIdx.y * width + at] = sum;
}

// A test-and-set lock around a plain counter, one thread of a block at a time.
extern "C" __global__ void __launch_bounds__(64) spin_lock(int *lock, int *count, int *log) {
    if (threadIdx.x == 0) {
        while (atomicCAS(lock, 0, 1) != 0) __nanosleep(20);
        __threadfence();
        int ticket = *(volatile int *)count;
        log[ticket] = blockIdx.x;
        *(volatile int *)count = ticket + 1;
        __threadfence();
        atomicExch(lock, 0);
    }
}

// Ping-pong of blocks through acquire and release, as libcu++ says it.
extern "C" __global__ void __launch_bounds__(32) message_passing(int *data, int *flag, int *out) {
    cuda::atomic_ref<int, cuda::thread_scope_device> ready(*flag);
    if (blockIdx.x == 0) {
        data[threadIdx.x] = 3 * threadIdx.x + 1;
        __syncwarp();
        if (threadIdx.x == 0) ready.store(1, cuda::memory_order_release);
    } else {
        if (threadIdx.x == 0)
            while (ready.load(cuda::memory_order_acquire) == 0) {}
        __syncwarp();
        out[(blockIdx.x - 1) * 32 + threadIdx.x] = data[threadIdx.x];
    }
}

// Blocks take work items from one counter until none are left; an item is a number whose divisors are counted.
extern "C" __global__ void __launch_bounds__(64) work_queue(unsigned int *next, const int *items, int *out, int n) {
    __shared__ unsigned int item;
    __shared__ int divisors;
    while (true) {
        if (threadIdx.x == 0) {
            item = atomicAdd(next, 1u);
            divisors = 0;
        }
        __syncthreads();
        if (item >= n) return;
        int value = items[item];
        for (int d = threadIdx.x + 1; d <= value; d += 64)
            if (value % d == 0) atomicAdd(&divisors, 1);
        __syncthreads();
        if (threadIdx.x == 0) out[item] = divisors;
        __syncthreads();
    }
}
