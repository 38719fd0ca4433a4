/* tilewright: kernels from a pack on an NVIDIA GPU, for C.
 *
 *   tw_pack *pack;
 *   if (tw_open("kernels-generated/sm90", 0, &pack) != TW_OK) { puts(tw_last_error()); return 1; }
 *   tw_gemm problem = {.m = 4096, .n = 4096, .k = 4096, .batch = 1, .split_k = 0, .alpha = 1.0f};
 *   tw_op *op;
 *   if (tw_prepare_gemm(pack, "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0", TW_FASTEST, &problem, &op) != TW_OK) ...
 *   uint64_t addresses[] = {(uint64_t)a, (uint64_t)b, (uint64_t)d};   // in the order of tw_op_tensor
 *   if (tw_run(op, addresses, 3, stream) != TW_OK) ...                // as often as wanted; fit for graph capture
 *   tw_op_close(op);
 *   tw_close(pack);
 *
 * Works in the device's primary context, as the CUDA runtime and PyTorch do. The driver is loaded by tw_open, so the
 * library itself loads on a machine without one. No call unwinds, exits or prints. */
#ifndef TILEWRIGHT_H
#define TILEWRIGHT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a call returns. After anything but TW_OK, tw_last_error says why in one line. */
#define TW_OK 0
#define TW_FAILED 1    /* the pack was refused, or the driver reported an error */
#define TW_INVALID 2   /* an argument is null, no UTF-8, or out of range */
#define TW_NO_DRIVER 3 /* no NVIDIA driver on this machine */
#define TW_UNFIT 4     /* no plan, or not this plan, is correct for the problem */

/* How to choose a plan. */
#define TW_FASTEST 0
#define TW_BATCH_INVARIANT 1 /* one plan for each (n, k) whatever m is */

/* Who fills a tensor. */
#define TW_INPUT 0
#define TW_OUTPUT 1

#define TW_MAX_RANK 8

/* A pack on a device. May be shared by threads. */
typedef struct tw_pack tw_pack;
/* A plan prepared for a shape, with its workspaces. One thread and one stream at a time. */
typedef struct tw_op tw_op;

/* d[m,n] = act(alpha * sum_k a*b + bias) + residual, batch times. */
typedef struct tw_gemm {
    int64_t m, n, k;
    int64_t batch;   /* 1 when not batched */
    int64_t split_k; /* parts the sum is cut into; 0 lets the plan choose */
    float alpha;     /* refused unless 1 where the plan takes none */
} tw_gemm;

/* A size of a problem, by the name that plans use for it: batch, sq, hkv, ... At least 0. */
typedef struct tw_size {
    const char *name;
    int64_t value;
} tw_size;

/* A number that kernels take, by name: scale, softcap, ... */
typedef struct tw_number {
    const char *name;
    float value;
} tw_number;

/* A problem of any op. Sizes that the plan does not mention are allowed; numbers that it does not take are refused. m, n
 * and k are what dispatch looks at; only tw_select needs them where the plan does not mention them. */
typedef struct tw_problem {
    const tw_size *sizes;
    const tw_number *numbers;
    uint32_t n_sizes, n_numbers;
} tw_problem;

/* A tensor to give to tw_run; row-major and dense. The texts live as long as the op. */
typedef struct tw_tensor {
    const char *name;
    const char *dtype; /* bf16, f16, f32, e4m3, ... */
    int32_t role;      /* TW_INPUT or TW_OUTPUT */
    uint32_t rank;
    uint64_t shape[TW_MAX_RANK]; /* outermost first */
    uint64_t bytes;
    uint64_t alignment; /* its address must be a multiple of this */
} tw_tensor;

/* The library's version. */
const char *tw_version(void);
/* Why the last call of this thread that did not return TW_OK failed; "" before any. Valid until the next call. */
const char *tw_last_error(void);

/* Opens the pack in a folder on a device. Kernels are loaded, and their files' hashes checked, when first prepared. */
int32_t tw_open(const char *folder, uint32_t ordinal, tw_pack **pack);
/* Checks the hash of every file of the pack. */
int32_t tw_verify(const tw_pack *pack);
/* BLAKE3 of the manifest, 64 hex digits; lives as long as the pack. Null for a null pack. */
const char *tw_manifest_hash(const tw_pack *pack);
/* Closes the pack; ops prepared from it stay valid, and the kernels stay loaded until the last is closed. Null is
 * allowed. */
void tw_close(tw_pack *pack);

/* The id of the plan that a policy chooses; the text lives as long as the pack. */
int32_t tw_select_gemm(const tw_pack *pack, const char *op_class, int32_t policy, const tw_gemm *problem,
                       const char **plan_id);
/* TW_OK when the plan is correct for the problem, TW_UNFIT when not. */
int32_t tw_check_gemm(const tw_pack *pack, const char *plan_id, const tw_gemm *problem);

/* Prepares the plan that a policy chooses. */
int32_t tw_prepare_gemm(const tw_pack *pack, const char *op_class, int32_t policy, const tw_gemm *problem, tw_op **op);
/* Prepares the plan with this id. */
int32_t tw_prepare_plan(const tw_pack *pack, const char *plan_id, const tw_gemm *problem, tw_op **op);

/* The same for any op: the plan's id that a policy chooses, whether a plan is correct for the problem, and the plan ready to
 * run. */
int32_t tw_select(const tw_pack *pack, const char *op, const char *op_class, int32_t policy, const tw_problem *problem,
                  const char **plan_id);
int32_t tw_check(const tw_pack *pack, const char *plan_id, const tw_problem *problem);
int32_t tw_prepare(const tw_pack *pack, const char *plan_id, const tw_problem *problem, tw_op **op);

/* How many addresses tw_run takes; 0 for a null op. */
uint32_t tw_op_tensor_count(const tw_op *op);
/* The tensor whose address comes at `index`. */
int32_t tw_op_tensor(const tw_op *op, uint32_t index, tw_tensor *tensor);
/* Device memory that the op holds; 0 for a null op. */
uint64_t tw_op_workspace_bytes(const tw_op *op);
/* Queues the op on a CUstream (null is the default stream) with one device address for each tensor. Allocates nothing. */
int32_t tw_run(tw_op *op, const uint64_t *addresses, uint32_t count, void *stream);
/* Frees the op. Its launches must have finished, and graphs that captured it must not run again: they hold its
 * workspaces. Null is allowed. */
void tw_op_close(tw_op *op);

#ifdef __cplusplus
}
#endif

#endif
