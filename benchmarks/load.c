/* The load: many connections, each with one message in flight.
 *
 *     load HOST PORT CONNECTIONS SIZE AMOUNT      AMOUNT: 100000 (messages) or 1.5s (seconds)
 *
 * Connects, prints "ready", then runs one round for each line on stdin and prints
 * "<round trips> <seconds>". The connections stay open between rounds, so that a round holds nothing
 * but echoes; what is in flight when a round is over is waited for. Ends at the end of stdin. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SILENCE_MS = 10000 }; /* a server that says nothing for so long has lost something */

struct connection {
    int fd;
    size_t sent, received; /* of the message in flight */
    int waits_for_output;
};

static struct connection *connections;
static char *message, *inbox;
static size_t size;
static long count;
static int poller;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void watch(struct connection *c, int output, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (output ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0) err(1, "epoll_ctl");
    c->waits_for_output = output;
}

static void push(struct connection *c) {
    ssize_t n = send(c->fd, message + c->sent, size - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) err(1, "send");
    if (n > 0) c->sent += n;
    if ((c->sent < size) != c->waits_for_output) watch(c, c->sent < size, EPOLL_CTL_MOD);
}

static void start(struct connection *c) {
    c->sent = c->received = 0;
    push(c);
}

/* True when the whole message came back. One byte of room more than may come shows a surplus. */
static int pull(struct connection *c) {
    ssize_t n = recv(c->fd, inbox, size + 1 - c->received, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n < 0) err(1, "recv");
    if (n == 0) errx(1, "the server closed a connection");
    c->received += n;
    if (c->received > c->sent) errx(1, "the server sent more than it was given");
    if (memcmp(inbox, message + c->received - n, n)) errx(1, "the echo differs");
    return c->received == size;
}

static void run(long messages, double seconds) {
    struct epoll_event events[1024];
    double begin = now(), deadline = begin + seconds;
    long done = 0, started = 0;
    while (started < count && started < messages) start(&connections[started++]);
    while (done < started) {
        int ready = epoll_wait(poller, events, 1024, SILENCE_MS);
        if (ready < 0 && errno != EINTR) err(1, "epoll_wait");
        if (ready == 0) errx(1, "%ld messages never came back", started - done);
        int go_on = now() < deadline;
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->sent < size) push(c);
            if (!(events[i].events & ~EPOLLOUT) || !pull(c)) continue;
            done++;
            if (go_on && started < messages) { start(c); started++; }
        }
    }
    printf("%ld %.9f\n", done, now() - begin);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 6) errx(2, "usage: load HOST PORT CONNECTIONS SIZE AMOUNT");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    if (!inet_aton(argv[1], &address.sin_addr)) errx(2, "not an IPv4 address: %s", argv[1]);
    count = atol(argv[3]);
    size = atol(argv[4]);
    char *unit;
    double amount = strtod(argv[5], &unit);
    int timed = !strcmp(unit, "s");
    if (count < 1 || size < 1 || amount <= 0 || (*unit && !timed)) errx(2, "nothing to do");

    connections = calloc(count, sizeof *connections);
    message = malloc(size);
    inbox = malloc(size + 1);
    poller = epoll_create1(0);
    if (!connections || !message || !inbox || poller < 0) err(1, "set-up");
    for (size_t i = 0; i < size; i++) message[i] = 'a' + i % 26;
    for (long i = 0; i < count; i++) {
        int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
            err(1, "connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        connections[i].fd = fd;
        watch(&connections[i], 0, EPOLL_CTL_ADD);
    }
    puts("ready");
    fflush(stdout);
    for (char line[16]; fgets(line, sizeof line, stdin);)
        run(timed ? LONG_MAX : (long)amount, timed ? amount : 1e18);
}
