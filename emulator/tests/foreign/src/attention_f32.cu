// Flash attention with one warp for each query, in f32.
extern "C" __global__ void __launch_bounds__(128) attention(const float *q, const float *k, const float *v, float *o, int s, float scale) {
    const int D = 64;
    __shared__ float ks[32][D + 1], vs[32][D];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int row = blockIdx.x * 4 + warp;
    float q0 = 0, q1 = 0;
    if (row < s) {
        q0 = q[row * D + lane];
        q1 = q[row * D + lane + 32];
    }
    float top = -INFINITY, sum = 0, o0 = 0, o1 = 0;
    for (int first = 0; first < s; first += 32) {
        for (int i = threadIdx.x; i < 32 * D; i += 128) {
            int key = first + i / D;
            ks[i / D][i % D] = key < s ? k[key * D + i % D] : 0.0f;
            vs[i / D][i % D] = key < s ? v[key * D + i % D] : 0.0f;
        }
        __syncthreads();
        float score = 0;
        for (int d = 0; d < 32; d++) {
            score += __shfl_sync(~0u, q0, d) * ks[lane][d];
            score += __shfl_sync(~0u, q1, d) * ks[lane][d + 32];
        }
        score = first + lane < s ? score * scale : -INFINITY;
        float most = score;
        for (int offset = 16; offset; offset /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, offset));
        most = fmaxf(top, most);
        float p = __expf(score - most), shrink = __expf(top - most);
        float total = p;
        for (int offset = 16; offset; offset /= 2) total += __shfl_xor_sync(~0u, total, offset);
        sum = sum * shrink + total;
        o0 *= shrink;
        o1 *= shrink;
        for (int j = 0; j < 32; j++) {
            float pj = __shfl_sync(~0u, p, j);
            o0 += pj * vs[j][lane];
            o1 += pj * vs[j][lane + 32];
        }
        top = most;
        __syncthreads();
    }
    if (row < s) {
        o[row * D + lane] = o0 / sum;
        o[row * D + lane + 32] = o1 / sum;
    }
}
