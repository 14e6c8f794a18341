/* Stands before the C library (LD_PRELOAD): calls of one thread, made by mantou or by Python's socket
 * module, fail as they were told to, or do less than they were asked for. All others go through. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

/* The order is that of CALLS in shim.py. */
enum call {
    ACCEPT4, SOCKET, BIND, LISTEN, CONNECT, RECV, SEND, SENDMSG, SENDFILE, SPLICE, SHUTDOWN, CLOSE,
    GETSOCKOPT, SETSOCKOPT, GETSOCKNAME, GETPEERNAME, EPOLL_CREATE1, EPOLL_CTL, EPOLL_WAIT, EVENTFD,
    TIMERFD_CREATE, TIMERFD_SETTIME, PIPE2, READ, WRITE, FCNTL, IOCTL, POLL, DUP3, PREAD, CALLS
};

/* What is to happen, in the thread that said so. */
static __thread struct {
    int armed;
    int call;            /* this one fails, */
    long first, times;   /* from the first on so many times (1 is the first), */
    long lasting;        /* or for so many nanoseconds from then on, */
    int error;           /* with this; */
    uint64_t random;     /* or any fails or is cut short, as chance will have it */
    int peeked;          /* the socket that was looked into: what was seen in it is there */
    long until, hits;
    long seen[CALLS];
} plan;

void faults_arm(int call, long first, long times, long lasting, int error, uint64_t seed) {
    memset(&plan, 0, sizeof plan);
    plan.call = call;
    plan.first = first;
    plan.times = times;
    plan.lasting = lasting;
    plan.error = error;
    plan.random = seed;
    plan.armed = 1;
}

/* How often anything was done. */
long faults_disarm(void) {
    plan.armed = 0;
    return plan.hits;
}

long faults_seen(int call) { return plan.seen[call]; }

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static uint64_t chance(uint64_t bound) {
    plan.random ^= plan.random << 13;
    plan.random ^= plan.random >> 7;
    plan.random ^= plan.random << 17;
    return (plan.random >> 11) % bound;
}

static int from_here(const void *caller, const char *library) {
    Dl_info info;
    return dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, library);
}

/* Whether a call of this thread is one that may fail: mantou's own, and those by which Python code
 * makes sockets. */
static int is_ours(enum call call, const void *caller) {
    if (!plan.armed) return 0;
    if (from_here(caller, "/_core.")) return 1;
    int makes = call == SOCKET || call == BIND || call == LISTEN || call == SETSOCKOPT;
    return makes && from_here(caller, "/_socket.");
}

/* Whether this one fails now; `errno` says with what. */
static int fails(enum call call, const void *caller) {
    if (!is_ours(call, caller)) return 0;
    long count = ++plan.seen[call];
    if (plan.random || (int)call != plan.call || count < plan.first) return 0;
    if (plan.lasting) {
        if (!plan.until) plan.until = now() + plan.lasting;
        if (now() > plan.until) return 0;
    } else if (count >= plan.first + plan.times) {
        return 0;
    }
    plan.hits++;
    errno = plan.error;
    return 1;
}

/* Whether chance interrupts it. */
static int interrupted(enum call call, const void *caller) {
    if (!plan.random || !is_ours(call, caller) || chance(4)) return 0;
    plan.hits++;
    errno = EINTR;
    return 1;
}

/* Whether chance says that there is nothing, or no room. */
static int unready(enum call call, const void *caller) {
    if (!plan.random || !is_ours(call, caller) || chance(8)) return 0;
    plan.hits++;
    errno = EAGAIN;
    return 1;
}

/* How much of it chance leaves. */
static size_t less(enum call call, const void *caller, size_t size) {
    if (!plan.random || size < 2 || !is_ours(call, caller) || chance(2)) return size;
    plan.hits++;
    return chance(2) ? 1 + chance(size - 1) : 1 + chance(size < 64 ? size - 1 : 63);
}

static int is_socket(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

static int is_file(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
}

#define CALLER __builtin_return_address(0)
#define NEXT(name) \
    static __typeof__(name) *next; \
    if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
/* A call that fails or goes through. */
#define PLAIN(result, name, call, parameters, arguments) \
    result name parameters { \
        NEXT(name); \
        if (fails(call, CALLER)) return -1; \
        return next arguments; \
    }
/* One that may be interrupted before it does anything, or find nothing. */
#define WAITS(call) \
    if (fails(call, CALLER) || interrupted(call, CALLER) || unready(call, CALLER)) return -1

PLAIN(int, socket, SOCKET, (int domain, int type, int protocol), (domain, type, protocol))
PLAIN(int, bind, BIND, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size))
PLAIN(int, listen, LISTEN, (int fd, int backlog), (fd, backlog))
PLAIN(int, shutdown, SHUTDOWN, (int fd, int how), (fd, how))
PLAIN(int, getsockopt, GETSOCKOPT, (int fd, int level, int name, void *value, socklen_t *size),
      (fd, level, name, value, size))
PLAIN(int, setsockopt, SETSOCKOPT, (int fd, int level, int name, const void *value, socklen_t size),
      (fd, level, name, value, size))
PLAIN(int, getsockname, GETSOCKNAME, (int fd, struct sockaddr *name, socklen_t *size),
      (fd, name, size))
PLAIN(int, getpeername, GETPEERNAME, (int fd, struct sockaddr *name, socklen_t *size),
      (fd, name, size))
PLAIN(int, epoll_create1, EPOLL_CREATE1, (int flags), (flags))
PLAIN(int, eventfd, EVENTFD, (unsigned int count, int flags), (count, flags))
PLAIN(int, timerfd_create, TIMERFD_CREATE, (int clock, int flags), (clock, flags))
PLAIN(int, timerfd_settime, TIMERFD_SETTIME,
      (int fd, int flags, const struct itimerspec *new, struct itimerspec *old),
      (fd, flags, new, old))
PLAIN(int, pipe2, PIPE2, (int fds[2], int flags), (fds, flags))
PLAIN(int, dup3, DUP3, (int old, int new, int flags), (old, new, flags))
PLAIN(int, poll, POLL, (struct pollfd *fds, nfds_t count, int timeout), (fds, count, timeout))

int accept4(int fd, struct sockaddr *from, socklen_t *size, int flags) {
    NEXT(accept4);
    WAITS(ACCEPT4);
    return next(fd, from, size, flags);
}

int connect(int fd, const struct sockaddr *to, socklen_t size) {
    NEXT(connect);
    if (fails(CONNECT, CALLER) || interrupted(CONNECT, CALLER)) {
        int error = errno;
        /* After these it goes on all the same. */
        if (error == EINTR || error == EINPROGRESS || error == EALREADY) next(fd, to, size);
        errno = error;
        return -1;
    }
    return next(fd, to, size);
}

ssize_t recv(int fd, void *buffer, size_t size, int flags) {
    NEXT(recv);
    if (fails(RECV, CALLER) || interrupted(RECV, CALLER)) return -1;
    int certain = (flags & MSG_PEEK) || plan.peeked == fd;
    plan.peeked = (flags & MSG_PEEK) ? fd : -1;
    if (certain) return next(fd, buffer, size, flags);
    if (unready(RECV, CALLER)) return -1;
    return next(fd, buffer, less(RECV, CALLER, size), flags);
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    NEXT(send);
    WAITS(SEND);
    return next(fd, data, less(SEND, CALLER, size), flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    NEXT(sendmsg);
    WAITS(SENDMSG);
    size_t size = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++) size += message->msg_iov[i].iov_len;
    size_t left = less(SENDMSG, CALLER, size);
    if (left == size) return next(fd, message, flags);
    struct iovec pieces[1024];
    struct msghdr shorter = *message;
    shorter.msg_iov = pieces;
    shorter.msg_iovlen = 0;
    while (left > 0) {
        struct iovec piece = message->msg_iov[shorter.msg_iovlen];
        if (piece.iov_len > left) piece.iov_len = left;
        left -= piece.iov_len;
        pieces[shorter.msg_iovlen++] = piece;
    }
    return next(fd, &shorter, flags);
}

ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
    NEXT(sendfile);
    WAITS(SENDFILE);
    return next(to, from, offset, less(SENDFILE, CALLER, size));
}

ssize_t splice(int from, off64_t *in, int to, off64_t *out, size_t size, unsigned int flags) {
    NEXT(splice);
    WAITS(SPLICE);
    return next(from, in, to, out, less(SPLICE, CALLER, size), flags);
}

int epoll_wait(int queue, struct epoll_event *events, int most, int timeout) {
    NEXT(epoll_wait);
    if (fails(EPOLL_WAIT, CALLER) || interrupted(EPOLL_WAIT, CALLER)) return -1;
    return next(queue, events, (int)less(EPOLL_WAIT, CALLER, (size_t)most), timeout);
}

/* Linux has closed it, whatever it says. */
/* What cannot be taken out is not in it: no other reason is possible. */
int epoll_ctl(int queue, int what, int fd, struct epoll_event *event) {
    NEXT(epoll_ctl);
    int failing = fails(EPOLL_CTL, CALLER);
    int error = errno;
    int result = failing && what != EPOLL_CTL_DEL ? -1 : next(queue, what, fd, event);
    if (!failing) return result;
    errno = error;
    return -1;
}

int close(int fd) {
    NEXT(close);
    int failing = plan.armed && is_socket(fd) && (fails(CLOSE, CALLER) || interrupted(CLOSE, CALLER));
    int error = errno;
    int result = next(fd);
    if (!failing) return result;
    errno = error;
    return -1;
}

ssize_t read(int fd, void *buffer, size_t size) {
    NEXT(read);
    if (!plan.armed || is_file(fd)) return next(fd, buffer, size);
    /* Nobody reads from a pipe of his own what he has not put there. */
    if (fails(READ, CALLER) || interrupted(READ, CALLER)) return -1;
    return next(fd, buffer, size == 8 ? size : less(READ, CALLER, size));
}

ssize_t pread64(int fd, void *buffer, size_t size, off64_t at) {
    NEXT(pread64);
    if (fails(PREAD, CALLER) || interrupted(PREAD, CALLER)) return -1;
    return next(fd, buffer, less(PREAD, CALLER, size), at);
}

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(write);
    if (plan.armed && !is_file(fd) && fails(WRITE, CALLER)) return -1;
    return next(fd, data, size);
}

int fcntl(int fd, int command, ...) {
    NEXT(fcntl);
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    /* Of a descriptor that is open this one cannot fail. */
    if (command != F_GETFD && fails(FCNTL, CALLER)) return -1;
    return next(fd, command, argument);
}

int ioctl(int fd, unsigned long request, ...) {
    NEXT(ioctl);
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (fails(IOCTL, CALLER)) return -1;
    return next(fd, request, argument);
}
