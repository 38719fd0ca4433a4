// A server of matrix products and attention in C: threads that accept, a pool of prepared ops, nothing but the library and
// POSIX. README.md says what it answers.
#define _POSIX_C_SOURCE 200809L
#include "http.h"
#include "pool.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { THREADS = 8, MOST_SIZE = 1 << 15, PATIENCE_S = 10 };
static const size_t MOST_BYTES = 64u << 20;

typedef struct server {
    int listener;
    pool pool;
} server;

// Reads sizes by name from the query.
static bool sizes(const char *query, uint32_t count, const char *const names[], shape *shape, http_reply *reply) {
    for (uint32_t i = 0; i < count; i++) {
        shape->sizes[i].name = names[i];
        if (!http_number(query, names[i], 1, MOST_SIZE, &shape->sizes[i].value)) {
            http_say(reply, 400, "%s must be given, a whole number from 1 to %d", names[i], MOST_SIZE);
            return false;
        }
    }
    shape->n_sizes = count;
    return true;
}

// Bytes of inputs and of the result, in bf16.
typedef struct bytes {
    uint64_t in, out;
} bytes;

static bool gemm(const char *query, shape *shape, bytes *bytes, http_reply *reply) {
    if (!sizes(query, 3, (const char *const[]){"m", "n", "k"}, shape, reply)) return false;
    uint64_t m = shape->sizes[0].value, n = shape->sizes[1].value, k = shape->sizes[2].value;
    shape->op = "gemm";
    shape->class = "a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0";
    shape->sizes[shape->n_sizes++] = (tw_size){"batch", 1};
    shape->sizes[shape->n_sizes++] = (tw_size){"split_k", 0};
    bytes->in = 2 * (m * k + n * k);
    bytes->out = 2 * m * n;
    return true;
}

static bool attention(const char *query, shape *shape, bytes *bytes, http_reply *reply) {
    // The pack has a class for each head size and kind of mask; the texts live as long as the program.
    static const struct {
        int64_t d, causal;
        const char *class;
    } classes[] = {
#define CLASS(d, causal)                                                                                               \
    {d, causal, "dtype=bf16,out=bf16,d=" #d ",dv=" #d ",causal=" #causal                                               \
                ",window=0,chunk=0,softcap=0,alibi=0,sink=0,bias=none,varlen=0,sparse=none"}
        CLASS(64, 0), CLASS(64, 1), CLASS(128, 0), CLASS(128, 1), CLASS(256, 0), CLASS(256, 1),
    };
    int64_t d, causal = 0;
    if (!sizes(query, 5, (const char *const[]){"batch", "sq", "sk", "hq", "hkv"}, shape, reply)) return false;
    if (strstr(query, "causal=") != NULL && !http_number(query, "causal", 0, 1, &causal)) {
        http_say(reply, 400, "causal must be 0 or 1");
        return false;
    }
    if (!http_number(query, "d", 1, MOST_SIZE, &d)) {
        http_say(reply, 400, "d must be given, a whole number from 1 to %d", MOST_SIZE);
        return false;
    }
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (classes[i].d == d && classes[i].causal == causal) shape->class = classes[i].class;
    if (shape->class == NULL) {
        http_say(reply, 422, "d = %" PRId64 ": there are 64, 128 and 256", d);
        return false;
    }
    uint64_t batch = shape->sizes[0].value, sq = shape->sizes[1].value, sk = shape->sizes[2].value;
    uint64_t hq = shape->sizes[3].value, hkv = shape->sizes[4].value;
    shape->op = "attention";
    shape->scale = 1.0f / sqrtf((float)d);
    // What dispatch looks at: queries, keys, heads of all sequences.
    shape->sizes[shape->n_sizes++] = (tw_size){"m", (int64_t)sq};
    shape->sizes[shape->n_sizes++] = (tw_size){"n", (int64_t)sk};
    shape->sizes[shape->n_sizes++] = (tw_size){"k", (int64_t)(batch * hq)};
    bytes->in = 2 * batch * (uint64_t)d * (sq * hq + 2 * sk * hkv);
    bytes->out = 2 * batch * sq * hq * (uint64_t)d;
    return true;
}

// Runs a prepared op on a body that holds its inputs one after another; its first output becomes the result.
static int32_t launch(pool *pool, ready *ready, const uint8_t *body, uint8_t *result, uint64_t bytes) {
    for (uint32_t i = 0; i < ready->n_tensors; i++) {
        if (ready->tensors[i].role != TW_INPUT) continue;
        int32_t status = tw_upload(pool->pack, ready->addresses[i], body, ready->tensors[i].bytes);
        if (status != TW_OK) return status;
        body += ready->tensors[i].bytes;
    }
    // The default stream serves an example. Where requests shall overlap on a GPU, each thread brings a stream of its own.
    int32_t status = tw_run(ready->op, ready->addresses, ready->n_tensors, NULL);
    for (uint32_t i = 0; status == TW_OK && i < ready->n_tensors; i++)
        if (ready->tensors[i].role == TW_OUTPUT) return tw_download(pool->pack, result, ready->addresses[i], bytes);
    return status;
}

static void answer(pool *pool, const http_request *request, http_reply *reply) {
    bool is_gemm = strcmp(request->path, "/gemm") == 0, is_attention = strcmp(request->path, "/attention") == 0;
    bool is_health = strcmp(request->path, "/health") == 0;
    if (!is_gemm && !is_attention && !is_health) {
        http_say(reply, 404, "there are POST /gemm, POST /attention and GET /health");
        return;
    }
    if (strcmp(request->method, is_health ? "GET" : "POST") != 0) {
        http_say(reply, 405, "%s takes %s", request->path, is_health ? "GET" : "POST");
        return;
    }
    if (is_health) {
        http_say(reply, 200, "ok, on %s", tw_device(pool->pack));
        return;
    }
    shape shape = {0};
    bytes bytes;
    if (!(is_gemm ? gemm : attention)(request->query, &shape, &bytes, reply)) return;
    if (bytes.in > MOST_BYTES || bytes.out > MOST_BYTES) {
        http_say(reply, 413, "inputs of %" PRIu64 " and a result of %" PRIu64 " bytes: at most %zu are served", bytes.in,
                 bytes.out, MOST_BYTES);
        return;
    }
    if (request->length != bytes.in) {
        http_say(reply, 400, "the body has %zu bytes, the sizes say %" PRIu64, request->length, bytes.in);
        return;
    }
    uint8_t *result = malloc(bytes.out);
    if (result == NULL) {
        http_say(reply, 503, "no memory for a result of %" PRIu64 " bytes", bytes.out);
        return;
    }
    ready *ready;
    int32_t status = pool_take(pool, &shape, &ready);
    if (status == TW_OK) status = launch(pool, ready, request->body, result, bytes.out);
    if (status == TW_OK) {
        pool_give(pool, ready);
        *reply = (http_reply){.status = 200, .body = result, .length = bytes.out};
        return;
    }
    // Before the calls below leave words of their own.
    http_say(reply, status == TW_UNFIT ? 422 : status == TW_INVALID ? 400 : 500, "%s", tw_last_error());
    if (ready != NULL) pool_drop(pool, ready);
    free(result);
}

static void *serve(void *argument) {
    server *server = argument;
    for (;;) {
        int connection = accept(server->listener, NULL, NULL);
        // The listener was shut down, or the client left before it was accepted.
        if (connection < 0) {
            int listening = 0;
            socklen_t size = sizeof listening;
            getsockopt(server->listener, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
            if (!listening) return NULL;
            continue;
        }
        // A client that sends nothing must not hold a thread for ever.
        struct timeval patience = {.tv_sec = PATIENCE_S};
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        http_request request;
        http_reply reply = {0};
        if (http_read(connection, MOST_BYTES, &request, &reply)) answer(&server->pool, &request, &reply);
        if (reply.status != 0) http_send(connection, &reply);
        http_free(&request);
        close(connection);
    }
}

static int listen_on(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (listener < 0) return -1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 64) < 0) return -1;
    if (getsockname(listener, (struct sockaddr *)&address, &size) < 0) return -1;
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int count, char **arguments) {
    const char *path = NULL, *device = "cuda:0";
    long port = 8080;
    for (int i = 1; i < count; i += 2) {
        const char *value = i + 1 < count ? arguments[i + 1] : NULL;
        if (value != NULL && strcmp(arguments[i], "--pack") == 0)
            path = value;
        else if (value != NULL && strcmp(arguments[i], "--device") == 0)
            device = value;
        else if (value != NULL && strcmp(arguments[i], "--port") == 0)
            port = strtol(value, NULL, 10);
        else
            path = NULL, i = count;
    }
    if (path == NULL || port < 0 || port > 65535) {
        fputs("usage: server --pack PATH [--device cuda:N|emulator] [--port N]\n", stderr);
        return 2;
    }
    server server = {.pool.lock = PTHREAD_MUTEX_INITIALIZER};
    if (tw_check_abi(TW_ABI) != TW_OK || tw_open_on(path, device, &server.pool.pack) != TW_OK) {
        fprintf(stderr, "server: %s\n", tw_last_error());
        return 1;
    }
    // Threads inherit the mask, so that only sigwait below takes the signals.
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    server.listener = listen_on((uint16_t)port);
    if (server.listener < 0) {
        perror("server: cannot listen");
        return 1;
    }
    pthread_t threads[THREADS];
    int started = 0, signal;
    while (started < THREADS && pthread_create(&threads[started], NULL, serve, &server) == 0) started++;
    if (started > 0) sigwait(&stop, &signal);
    // No new connections; requests under way are answered before their threads end.
    shutdown(server.listener, SHUT_RDWR);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    pool_close(&server.pool);
    tw_close(server.pool.pack);
    return started > 0 ? 0 : 1;
}
