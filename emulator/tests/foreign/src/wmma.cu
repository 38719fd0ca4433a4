// A product by the WMMA interface: c [m, n] = a [m, k] b [k, n], whole tiles of 16.
#include <mma.h>

using namespace nvcuda;

extern "C" __global__ void __launch_bounds__(128) gemm_wmma(const __half *a, const __half *b, float *c, int m, int n, int k) {
    int row = (blockIdx.y * 2 + threadIdx.x / 64) * 16, col = (blockIdx.x * 2 + threadIdx.x / 32 % 2) * 16;
    if (row >= m || col >= n) return;
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> acc;
    wmma::fill_fragment(acc, 0.0f);
    for (int x = 0; x < k; x += 16) {
        wmma::load_matrix_sync(fa, a + row * k + x, k);
        wmma::load_matrix_sync(fb, b + x * n + col, n);
        wmma::mma_sync(acc, fa, fb, acc);
    }
    wmma::store_matrix_sync(c + row * n + col, acc, n, wmma::mem_row_major);
}
