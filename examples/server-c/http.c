#define _POSIX_C_SOURCE 200809L
#include "http.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { MOST_HEAD = 8192 };

void http_say(http_reply *reply, int status, const char *form, ...) {
    va_list values;
    va_start(values, form);
    reply->status = status;
    vsnprintf(reply->text, sizeof reply->text, form, values);
    va_end(values);
}

// A header's value, or null. Headers are lines between the first and the empty one.
static const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            line += length + 1;
            return line + strspn(line, " \t");
        }
    }
    return NULL;
}

// Reads until the empty line; `got` is what lies in `head` then, the start of the body with it. False when the client is
// gone or the head is too long.
static bool read_head(int connection, char head[MOST_HEAD + 1], size_t *got, http_reply *reply) {
    for (*got = 0; *got < MOST_HEAD;) {
        ssize_t count = recv(connection, head + *got, MOST_HEAD - *got, 0);
        if (count <= 0) {
            reply->status = 0;
            return false;
        }
        *got += (size_t)count;
        head[*got] = '\0';
        if (strstr(head, "\r\n\r\n") != NULL) return true;
        // A zero byte, or a first line that is none: whoever sends this does not speak HTTP.
        if (strlen(head) < *got) {
            http_say(reply, 400, "this is no HTTP request");
            return false;
        }
    }
    http_say(reply, 431, "the head of the request has more than %d bytes", MOST_HEAD);
    return false;
}

bool http_read(int connection, size_t most, http_request *request, http_reply *reply) {
    char head[MOST_HEAD + 1], target[sizeof request->path + sizeof request->query], version[16];
    size_t got;
    memset(request, 0, sizeof *request);
    if (!read_head(connection, head, &got, reply)) return false;
    size_t length = (size_t)(strstr(head, "\r\n\r\n") - head) + 4;

    if (sscanf(head, "%7[A-Z] %287[^ \r\n] %15[^ \r\n]", request->method, target, version) != 3 ||
        strncmp(version, "HTTP/1.", 7) != 0) {
        http_say(reply, 400, "this is no HTTP request");
        return false;
    }
    size_t path = strcspn(target, "?");
    if (path >= sizeof request->path || strlen(target + path) > sizeof request->query) {
        http_say(reply, 414, "the address is too long");
        return false;
    }
    memcpy(request->path, target, path);
    if (target[path] == '?') strcpy(request->query, target + path + 1);

    const char *given = header(head, "Content-Length");
    if (given == NULL) {
        if (strcmp(request->method, "POST") != 0) return true;
        http_say(reply, 411, "send the body with Content-Length");
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long announced = strtoull(given, &end, 10);
    if (given[0] < '0' || given[0] > '9' || *end != '\r') {
        http_say(reply, 400, "Content-Length is no number");
        return false;
    }
    if (errno != 0 || announced > most) {
        http_say(reply, 413, "the body has more than %zu bytes", most);
        return false;
    }
    request->length = (size_t)announced;
    request->body = malloc(request->length + 1);
    if (request->body == NULL) {
        http_say(reply, 503, "no memory for a body of %zu bytes", request->length);
        return false;
    }
    const char *expect = header(head, "Expect");
    if (expect != NULL && strncasecmp(expect, "100-continue", 12) == 0) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        send(connection, go_on, sizeof go_on - 1, MSG_NOSIGNAL);
    }
    size_t have = got - length < request->length ? got - length : request->length;
    memcpy(request->body, head + length, have);
    while (have < request->length) {
        ssize_t count = recv(connection, request->body + have, request->length - have, 0);
        if (count <= 0) {
            reply->status = 0;
            return false;
        }
        have += (size_t)count;
    }
    return true;
}

void http_free(http_request *request) {
    free(request->body);
    request->body = NULL;
}

static bool send_all(int connection, const void *bytes, size_t length) {
    for (size_t sent = 0; sent < length;) {
        // A client that has gone must not kill the server with SIGPIPE.
        ssize_t count = send(connection, (const char *)bytes + sent, length - sent, MSG_NOSIGNAL);
        if (count <= 0) return false;
        sent += (size_t)count;
    }
    return true;
}

void http_send(int connection, http_reply *reply) {
    char head[160];
    bool text = reply->body == NULL;
    size_t length = text ? strlen(reply->text) + 1 : reply->length;
    const char *reason = reply->status < 300 ? "OK" : reply->status < 500 ? "Bad Request" : "Failed";
    int size = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
                        reply->status, reason, text ? "text/plain" : "application/octet-stream", length);
    if (send_all(connection, head, (size_t)size)) {
        if (text) {
            reply->text[length - 1] = '\n';
            send_all(connection, reply->text, length);
        } else {
            send_all(connection, reply->body, length);
        }
    }
    free(reply->body);
    reply->body = NULL;
}

bool http_number(const char *query, const char *name, int64_t least, int64_t most, int64_t *value) {
    size_t length = strlen(name);
    for (const char *at = query; *at != '\0'; at += strcspn(at, "&"), at += *at == '&') {
        if (strncmp(at, name, length) != 0 || at[length] != '=') continue;
        const char *digits = at + length + 1;
        char *end;
        errno = 0;
        long long number = strtoll(digits, &end, 10);
        *value = number;
        return end != digits && (*end == '\0' || *end == '&') && errno == 0 && number >= least && number <= most;
    }
    return false;
}
