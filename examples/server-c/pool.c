#include "pool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool same(const shape *a, const shape *b) {
    bool equal = strcmp(a->op, b->op) == 0 && strcmp(a->class, b->class) == 0 && a->n_sizes == b->n_sizes;
    for (uint32_t i = 0; equal && i < a->n_sizes; i++) equal = a->sizes[i].value == b->sizes[i].value;
    return equal;
}

static int32_t prepare(tw_pack *pack, ready *ready) {
    const shape *shape = &ready->shape;
    tw_number number = {shape->scale != 0 ? "scale" : "alpha", shape->scale != 0 ? shape->scale : 1.0f};
    tw_problem problem = {shape->sizes, &number, shape->n_sizes, 1};
    const char *plan;
    int32_t status = tw_select(pack, shape->op, shape->class, TW_FASTEST, &problem, &plan);
    if (status == TW_OK) status = tw_prepare(pack, plan, &problem, &ready->op);
    if (status != TW_OK) return status;
    uint32_t count = tw_op_tensor_count(ready->op);
    for (; status == TW_OK && ready->n_tensors < count && count <= MOST_TENSORS; ready->n_tensors++) {
        tw_tensor *tensor = &ready->tensors[ready->n_tensors];
        status = tw_op_tensor(ready->op, ready->n_tensors, tensor);
        if (status == TW_OK) status = tw_alloc(pack, tensor->bytes, &ready->addresses[ready->n_tensors]);
    }
    return ready->n_tensors == count ? status : TW_FAILED;
}

int32_t pool_take(pool *pool, const shape *shape, ready **taken) {
    *taken = NULL;
    pthread_mutex_lock(&pool->lock);
    for (int i = pool->n_idle - 1; i >= 0 && *taken == NULL; i--) {
        if (!same(&pool->idle[i]->shape, shape)) continue;
        *taken = pool->idle[i];
        memmove(&pool->idle[i], &pool->idle[i + 1], (size_t)(--pool->n_idle - i) * sizeof pool->idle[0]);
    }
    pthread_mutex_unlock(&pool->lock);
    if (*taken != NULL) return TW_OK;

    // Not under the lock: others go on while kernels are loaded.
    ready *made = calloc(1, sizeof *made);
    if (made == NULL) return TW_FAILED;
    made->shape = *shape;
    int32_t status = prepare(pool->pack, made);
    if (status == TW_OK)
        *taken = made;
    else
        pool_drop(pool, made);
    return status;
}

void pool_give(pool *pool, ready *back) {
    ready *oldest = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->n_idle == MOST_IDLE) {
        oldest = pool->idle[0];
        memmove(&pool->idle[0], &pool->idle[1], (size_t)(--pool->n_idle) * sizeof pool->idle[0]);
    }
    pool->idle[pool->n_idle++] = back;
    pthread_mutex_unlock(&pool->lock);
    if (oldest != NULL) pool_drop(pool, oldest);
}

void pool_drop(pool *pool, ready *gone) {
    for (uint32_t i = 0; i < gone->n_tensors; i++) tw_free(pool->pack, gone->addresses[i]);
    tw_op_close(gone->op);
    free(gone);
}

void pool_close(pool *pool) {
    while (pool->n_idle > 0) pool_drop(pool, pool->idle[--pool->n_idle]);
}
