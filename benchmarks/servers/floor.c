/* The floor: the least a server can cost. One thread, level-triggered epoll, no library.
 *
 *     floor ROLE       prints the port it listens on
 *
 * echo: what comes in goes out. sink: a zero byte back for every BLOCK received. source: a BLOCK out for
 * every byte received. fanout: what comes in goes to every connection. pieces: an echo in writes of
 * 4 bytes. corked: the same, gathered into one write. farewell: an echo, then the end.
 *
 * What the kernel does not take is kept, and nothing is read from that connection until it is out. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, PIECE = 4 };

struct connection {
    int fd, place;
    char *queue; /* what waits for room, in a buffer of `queued` bytes of which `sent` are out */
    size_t queued, sent;
    size_t received; /* sink: of the block that is coming in */
};

static char buffer[64 * 1024], block[BLOCK];
static struct connection **everybody;
static int count, poller;

static void close_connection(struct connection *c) {
    everybody[c->place] = everybody[--count];
    everybody[c->place]->place = c->place;
    close(c->fd); /* takes it out of the epoll set */
    free(c->queue);
    c->fd = -1; /* freed by whoever runs its event */
}

static void watch(struct connection *c, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event) < 0) err(1, "epoll_ctl");
}

static void keep(struct connection *c, const char *data, size_t size) {
    size_t waiting = c->queued - c->sent;
    char *queue = malloc(waiting + size);
    if (!queue) err(1, "malloc");
    if (waiting) memcpy(queue, c->queue + c->sent, waiting);
    memcpy(queue + waiting, data, size);
    free(c->queue);
    if (!waiting) watch(c, EPOLLOUT);
    c->queue = queue, c->queued = waiting + size, c->sent = 0;
}

static void transmit(struct connection *c, const char *data, size_t size) {
    ssize_t n = 0;
    if (!c->queue) n = send(c->fd, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return; /* the reset comes as an event as well */
    if (n < 0) n = 0;
    if ((size_t)n < size) keep(c, data + n, size - n);
}

static void drain(struct connection *c) {
    ssize_t n = send(c->fd, c->queue + c->sent, c->queued - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) { close_connection(c); return; }
    c->sent += n;
    if (c->sent < c->queued) return;
    free(c->queue);
    c->queue = NULL, c->queued = c->sent = 0;
    watch(c, EPOLLIN);
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

static void pieces(struct connection *c, size_t size) {
    for (size_t i = 0; i < size; i += PIECE)
        transmit(c, buffer + i, size - i < PIECE ? size - i : PIECE);
}

static void corked(struct connection *c, size_t size) {
    struct iovec parts[64];
    int used = 0;
    for (size_t i = 0; i < size && used < 64; i += PIECE)
        parts[used++] = (struct iovec){buffer + i, size - i < PIECE ? size - i : PIECE};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = used};
    ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL);
    if (n < 0) n = 0;
    if ((size_t)n < size) keep(c, buffer + n, size - n);
}

static void farewell(struct connection *c, size_t size) {
    transmit(c, buffer, size);
    shutdown(c->fd, SHUT_WR);
}

static const struct {
    const char *name;
    void (*function)(struct connection *, size_t);
} roles[] = {{"echo", echo},     {"sink", sink},     {"source", source},    {"fanout", fanout},
             {"pieces", pieces}, {"corked", corked}, {"farewell", farewell}};

static void add(int listener) {
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    struct connection *c = calloc(1, sizeof *c);
    everybody = realloc(everybody, (count + 1) * sizeof *everybody);
    if (!c || !everybody) err(1, "malloc");
    c->fd = fd, c->place = count, everybody[count++] = c;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) err(1, "epoll_ctl");
}

int main(int argc, char **argv) {
    void (*role)(struct connection *, size_t) = NULL;
    for (size_t i = 0; argc > 1 && i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(argv[1], roles[i].name)) role = roles[i].function;
    if (!role) errx(2, "usage: floor echo|sink|source|fanout|pieces|corked|farewell");
    for (size_t i = 0; i < BLOCK; i++) block[i] = i % 251;

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
            struct connection *c = events[i].data.ptr;
            if (!c) { add(listener); continue; }
            if (c->queue) {
                drain(c);
            } else {
                ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
                if (got > 0) role(c, got);
                else if (got == 0 || errno != EAGAIN) close_connection(c);
            }
            if (c->fd < 0) free(c);
        }
    }
}
