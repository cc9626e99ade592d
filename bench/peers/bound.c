/* The lower bound of `bench fanout`: what C over epoll can do when it does nothing but send. It reads the publisher's
 * lines, frames them, joins what came in one read (unless told "each"), and calls send once for each client.
 *
 * Not a server: the handshake's answer is a constant, nothing is read from clients, and a client that is too slow ends
 * the program. bound PORT SOURCE_PORT [each]
 *
 * Invariant: one send for each client and batch, of bytes that were made once.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int poller, clients[1 << 16], count;

static void die(const char *what) {
    fprintf(stderr, "bound: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listen_on(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) die("listen");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void watch(int fd) {
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
}

/* A full socket is waited for: the bound has no queue. */
/* Like every peer: without it a small send would wait for the acknowledgement of the one before. */
static void at_once(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void send_all(int fd, const uint8_t *p, size_t n) {
    while (n) {
        ssize_t put = send(fd, p, n, MSG_NOSIGNAL);
        if (put < 0 && errno != EAGAIN) return;
        if (put > 0) p += put, n -= (size_t)put;
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "bound: PORT SOURCE_PORT [each]\n"), 2;
    int door = listen_on(atoi(argv[1])), feed_door = listen_on(atoi(argv[2])), feed = -1;
    int each = argc > 3 && !strcmp(argv[3], "each");
    static const char hello[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    static uint8_t in[1 << 20], out[1 << 21];
    size_t have = 0;
    poller = epoll_create1(0);
    watch(door), watch(feed_door);
    printf("ready\n"), fflush(stdout);
    for (;;) {
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == door || fd == feed_door) {
                int got;
                while ((got = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    watch(got), at_once(got);
                    if (fd == feed_door) feed = got;
                }
            } else if (fd == feed) {
                ssize_t got = read(feed, in + have, sizeof in - have);
                if (got <= 0) {
                    if (got == 0 || errno != EAGAIN) close(feed), feed = -1, have = 0;
                    continue;
                }
                have += (size_t)got;
                size_t at = 0, put = 0;
                uint8_t *end;
                while ((end = memchr(in + at, '\n', have - at))) {
                    size_t n = (size_t)(end - in) - at;
                    out[put++] = 0x81;
                    if (n < 126) out[put++] = (uint8_t)n;
                    else out[put++] = 126, out[put++] = (uint8_t)(n >> 8), out[put++] = (uint8_t)n;
                    memcpy(out + put, in + at, n);
                    put += n, at += n + 1;
                    if (each) {
                        for (int c = 0; c < count; c++) send_all(clients[c], out, put);
                        put = 0;
                    }
                }
                memmove(in, in + at, have -= at);
                for (int c = 0; put && c < count; c++) send_all(clients[c], out, put);
            } else {
                uint8_t said[4096];
                ssize_t got = read(fd, said, sizeof said);
                if (got > 3 && !memcmp(said, "GET", 3)) {
                    send_all(fd, (const uint8_t *)hello, sizeof hello - 1);
                    clients[count++] = fd;
                } else if (got == 0 || (got < 0 && errno != EAGAIN)) {
                    for (int c = 0; c < count; c++)
                        if (clients[c] == fd) clients[c] = clients[--count];
                    close(fd);
                }
            }
        }
    }
}
