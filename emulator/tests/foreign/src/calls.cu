// Functions that are called: out of line, recursive, through a table and through virtual tables.

__device__ __noinline__ float polynomial(const float *c, int degree, float x) {
    float y = c[degree];
    for (int i = degree - 1; i >= 0; i--) y = y * x + c[i];
    return y;
}

extern "C" __global__ void __launch_bounds__(64) call_noinline(const float *x, const float *c, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = polynomial(c, 3 + (i & 1), x[i]);
}

__device__ __noinline__ unsigned int fibonacci(unsigned int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

extern "C" __global__ void __launch_bounds__(32) recursion(unsigned int *y) { y[threadIdx.x] = fibonacci(threadIdx.x % 11); }

typedef int (*binary)(int, int);
__device__ __noinline__ int add(int a, int b) { return a + b; }
__device__ __noinline__ int subtract(int a, int b) { return a - b; }
__device__ __noinline__ int multiply(int a, int b) { return a * b; }
__device__ binary table[3] = {add, subtract, multiply};

extern "C" __global__ void __launch_bounds__(64) call_indirect(const int *op, const int *a, const int *b, int *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = table[op[i]](a[i], b[i]);
}

struct Shape {
    __device__ virtual float area() const = 0;
};
struct Square : Shape {
    float side;
    __device__ Square(float side) : side(side) {}
    __device__ float area() const override { return side * side; }
};
struct Rectangle : Shape {
    float width, height;
    __device__ Rectangle(float width, float height) : width(width), height(height) {}
    __device__ float area() const override { return width * height; }
};

extern "C" __global__ void __launch_bounds__(64) call_virtual(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    Square square(x[i]);
    Rectangle rectangle(x[i], 3.0f);
    const Shape *shape = (i % 3 == 0) ? (const Shape *)&square : (const Shape *)&rectangle;
    y[i] = shape->area();
}
