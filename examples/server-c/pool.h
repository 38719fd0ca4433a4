// Ops ready to run, kept by shape: the part that a real server would copy. Choosing a plan and preparing it happens once a
// shape; a request then only copies its data, launches and copies the result.
#ifndef POOL_H
#define POOL_H

#include <pthread.h>
#include <tilewright.h>

enum { MOST_IDLE = 16, MOST_TENSORS = 8, MOST_SIZES = 5 };

// What a request asks for. Two that are equal run the same op.
typedef struct shape {
    const char *op;    // gemm or attention
    const char *class; // as the pack's tables spell it
    uint32_t n_sizes;
    tw_size sizes[MOST_SIZES + 3];
    float scale; // of attention's scores; 0 for gemm
} shape;

// An op with device memory for its tensors. Whoever holds it has it for himself.
typedef struct ready {
    shape shape;
    tw_op *op;
    uint32_t n_tensors;
    tw_tensor tensors[MOST_TENSORS];
    uint64_t addresses[MOST_TENSORS];
} ready;

typedef struct pool {
    tw_pack *pack;
    pthread_mutex_t lock;
    int n_idle;
    ready *idle[MOST_IDLE]; // the longest idle first
} pool;

// An op for a shape, one that is idle or a new one; the status and tw_last_error say why there is none.
int32_t pool_take(pool *pool, const shape *shape, ready **ready);
// Gives it back for the next request; the one that nobody asked for longest makes room.
void pool_give(pool *pool, ready *ready);
// Frees it: after a failure nobody knows what its memory holds.
void pool_drop(pool *pool, ready *ready);
void pool_close(pool *pool);

#endif
