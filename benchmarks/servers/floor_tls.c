/* The floor under TLS: OpenSSL straight on non-blocking sockets, level-triggered epoll.
 *
 *     floor_tls ROLE CERTIFICATE KEY       prints the port it listens on
 *
 * Roles as in floor.c: echo, sink, source, fanout, pieces, corked (one SSL_write of all pieces). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, PIECE = 4 };

struct connection {
    int fd, place;
    SSL *ssl;
    unsigned watched;
    int failed; /* in a write: to be closed by its own event */
    char *queue; /* what waits for room; OpenSSL wants the same bytes again */
    size_t queued, sent;
    size_t received; /* sink: of the block that is coming in */
};

static char buffer[64 * 1024], gathered[sizeof buffer], block[BLOCK];
static struct connection **everybody;
static int count, poller;

static void watch(struct connection *c, unsigned events) {
    if (c->watched == events) return;
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event) < 0) err(1, "epoll_ctl");
    c->watched = events;
}

static void keep(struct connection *c, const char *data, size_t size) {
    size_t waiting = c->queued - c->sent;
    char *queue = malloc(waiting + size);
    if (!queue) err(1, "malloc");
    if (waiting) memcpy(queue, c->queue + c->sent, waiting);
    memcpy(queue + waiting, data, size);
    free(c->queue);
    c->queue = queue, c->queued = waiting + size, c->sent = 0;
    watch(c, EPOLLOUT);
}

/* How much of it OpenSSL took, record by record. */
static size_t push(struct connection *c, const char *data, size_t size) {
    size_t sent = 0, n;
    while (sent < size && SSL_write_ex(c->ssl, data + sent, size - sent, &n) > 0) sent += n;
    if (sent < size) {
        int error = SSL_get_error(c->ssl, 0);
        c->failed = error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ;
        ERR_clear_error(); /* or the next connection's error would be taken for this one */
    }
    return sent;
}

static void transmit(struct connection *c, const char *data, size_t size) {
    size_t sent = c->queue ? 0 : push(c, data, size);
    if (sent < size) keep(c, data + sent, size - sent);
}

static void close_connection(struct connection *c) {
    everybody[c->place] = everybody[--count];
    everybody[c->place]->place = c->place;
    SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd); /* takes it out of the epoll set */
    free(c->queue);
    free(c);
    ERR_clear_error();
}

static void echo(struct connection *c, size_t size) { transmit(c, buffer, size); }

static void sink(struct connection *c, size_t size) {
    for (c->received += size; c->received >= BLOCK; c->received -= BLOCK) transmit(c, "", 1);
}

static void source(struct connection *c, size_t size) {
    while (size--) transmit(c, block, BLOCK);
}

static void fanout(struct connection *c, size_t size) {
    (void)c;
    for (int i = 0; i < count; i++) transmit(everybody[i], buffer, size);
}

static size_t piece(size_t start, size_t size) { return size - start < PIECE ? size - start : PIECE; }

static void pieces(struct connection *c, size_t size) {
    for (size_t i = 0; i < size; i += PIECE) transmit(c, buffer + i, piece(i, size));
}

static void corked(struct connection *c, size_t size) {
    for (size_t i = 0; i < size; i += PIECE) memcpy(gathered + i, buffer + i, piece(i, size));
    transmit(c, gathered, size);
}

static void farewell(struct connection *c, size_t size) {
    transmit(c, buffer, size);
    SSL_shutdown(c->ssl);
    shutdown(c->fd, SHUT_WR);
}

static const struct role {
    const char *name;
    void (*function)(struct connection *, size_t);
} roles[] = {{"echo", echo},     {"sink", sink},     {"source", source},    {"fanout", fanout},
             {"pieces", pieces}, {"corked", corked}, {"farewell", farewell}};

static void drain(struct connection *c) {
    c->sent += push(c, c->queue + c->sent, c->queued - c->sent);
    if (c->sent < c->queued) return;
    free(c->queue);
    c->queue = NULL, c->queued = c->sent = 0;
    watch(c, EPOLLIN);
}

/* Fills the buffer from the records that are there: one answer for all of them. */
static void serve(struct connection *c, const struct role *role) {
    if (c->queue) drain(c);
    if (c->failed) { close_connection(c); return; }
    while (!c->queue) {
        size_t got = 0, n;
        while (got < sizeof buffer && SSL_read_ex(c->ssl, buffer + got, sizeof buffer - got, &n) > 0)
            got += n;
        int error = got == sizeof buffer ? SSL_ERROR_NONE : SSL_get_error(c->ssl, 0);
        if (got) role->function(c, got);
        if (error == SSL_ERROR_NONE) continue;
        if (error == SSL_ERROR_WANT_READ) return;
        if (error == SSL_ERROR_WANT_WRITE) watch(c, EPOLLIN | EPOLLOUT);
        else close_connection(c);
        return;
    }
}

static void add(int listener, SSL_CTX *context) {
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    struct connection *c = calloc(1, sizeof *c);
    everybody = realloc(everybody, (count + 1) * sizeof *everybody);
    if (!everybody || !c || !(c->ssl = SSL_new(context)) || !SSL_set_fd(c->ssl, fd)) err(1, "SSL_new");
    SSL_set_accept_state(c->ssl);
    c->fd = fd, c->watched = EPOLLIN, c->place = count, everybody[count++] = c;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) err(1, "epoll_ctl");
}

static SSL_CTX *make_context(const char *certificate, const char *key) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") ||
        SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        errx(1, "cannot use %s and %s", certificate, key);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1); /* a record in one recv instead of two */
    SSL_CTX_set_default_read_buffer_len(context, sizeof buffer);
    return context;
}

int main(int argc, char **argv) {
    const struct role *role = NULL;
    for (size_t i = 0; argc == 4 && i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(argv[1], roles[i].name)) role = &roles[i];
    if (!role) errx(2, "usage: floor_tls echo|sink|source|fanout|pieces|corked|farewell CERTIFICATE KEY");
    SSL_CTX *context = make_context(argv[2], argv[3]);
    /* No client is to be ahead because it resumes. */
    if (role->function == farewell) SSL_CTX_set_num_tickets(context, 0);
    for (size_t i = 0; i < BLOCK; i++) block[i] = i % 251;
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes to what was reset */

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) < 0 ||
        listen(listener, SOMAXCONN) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        err(1, "listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[1024];
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0) err(1, "epoll");
    for (;;) {
        int ready = epoll_wait(poller, events, 1024, -1);
        if (ready < 0 && errno != EINTR) err(1, "epoll_wait");
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr) serve(events[i].data.ptr, role);
            else add(listener, context);
        }
    }
}
