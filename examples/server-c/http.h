// As much of HTTP/1.1 as the server needs: one request a connection, bodies with Content-Length.
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct http_request {
    char method[8];
    char path[32];
    char query[256];
    uint8_t *body; // length bytes, freed by http_free
    size_t length;
} http_request;

// What to answer: a status, and a line of text or bytes.
typedef struct http_reply {
    int status;
    char text[256]; // sent where there is no body
    uint8_t *body;  // freed by http_send
    size_t length;
} http_reply;

// Reads a request whose body has at most `most` bytes. False when there is nothing to run: the reply says why, and its
// status is 0 when the client is gone.
bool http_read(int connection, size_t most, http_request *request, http_reply *reply);
void http_free(http_request *request);

void http_send(int connection, http_reply *reply);

// The whole number after `name=` in a query; false when it is missing or no number from `least` to `most`.
bool http_number(const char *query, const char *name, int64_t least, int64_t most, int64_t *value);

// Fills the reply with a status and a line.
void http_say(http_reply *reply, int status, const char *form, ...) __attribute__((format(printf, 3, 4)));

#endif
