// clang-22 -O2 (and -O0) -x cuda --cuda-device-only -nocudainc -nocudalib --cuda-gpu-arch=sm_80 --cuda-feature=+ptx78 -S
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __noinline__ __attribute__((noinline))
#define __constant__ __attribute__((constant))
#define __shared__ __attribute__((shared))
extern "C" __device__ int vprintf(const char*, void*);
extern "C" __device__ __attribute__((noreturn)) void __assertfail(const char*, const char*, unsigned, const char*, unsigned long);
#define TID __nvvm_read_ptx_sreg_tid_x()
struct S { int a; char b; double c; int d[3]; };
struct R { long x, y; };
__device__ __noinline__ int fib(int n) { if (n < 2) return n; int buf[4]; buf[n & 3] = fib(n - 1); int r = fib(n - 2); return buf[n & 3] + r; }
__device__ __noinline__ R combine(S s, int k) { R r; r.x = s.a + s.b + (long)s.c; r.y = s.d[k % 3]; return r; }
__device__ __noinline__ int twice(int x) { return 2 * x; }
__device__ __noinline__ int square(int x) { if (x > 20) return -1; for (int i = 0; i < x; ++i) if (i * i == x * x - 1) return 7; return x * x; }
typedef int (*fn)(int);
__device__ fn table[2] = {twice, square};
__device__ __noinline__ void sum(int *p, int n, int *out) { int s = 0; for (int i = 0; i < n; ++i) s += p[i]; *out = s; }
__device__ __noinline__ int even(int n); 
__device__ __noinline__ int odd(int n) { return n == 0 ? 0 : even(n - 1); }
__device__ __noinline__ int even(int n) { return n == 0 ? 1 : odd(n - 1); }
extern "C" __global__ void k(int *out, int which) {
  int t = TID;
  int *o = out + 8 * t;
  o[0] = fib(t % 12);
  S s; s.a = t; s.b = (char)(t + 1); s.c = t * 0.5; s.d[0] = 10 + t; s.d[1] = 20 + t; s.d[2] = 30 + t;
  R r = combine(s, t);
  o[1] = (int)r.x; o[2] = (int)r.y;
  o[3] = table[(t ^ which) & 1](t);
  int a[5]; for (int i = 0; i < 5; ++i) a[i] = t + i;
  int q; sum(a, 5, &q); o[4] = q;
  o[5] = t & 1 ? square(t) : 0;
  o[6] = even(t);
  o[7] = __nvvm_shfl_sync_idx_i32(0xffffffff, twice(t), 0, 0x1f) ;
}
extern "C" __global__ void p(int n) {
  struct { int t; int pad; double x; const char *s; long long l; } a;
  a.t = TID; a.x = TID * 1.5; a.s = "str"; a.l = -TID;
  if (TID < n) vprintf("t=%d x=%5.2f s=%s l=%lld %%\n", &a);
  if (TID == 99) __assertfail("x < 3", "file.cu", 12, "void p()", 1);
}
