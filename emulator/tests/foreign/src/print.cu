// printf and assert of a kernel.
#include <cassert>
#include <cstdio>

extern "C" __global__ void __launch_bounds__(32) print(const int *x, int *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    assert(i < n);
    if (i % 16 == 0) printf("x[%d] = %d, half is %f\n", i, x[i], x[i] * 0.5);
    y[i] = x[i] + 1;
}
