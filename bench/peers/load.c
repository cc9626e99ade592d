/* The load of `bench fanout`: N WebSocket clients and the one publisher that feeds the server under test, in one epoll
 * loop that never sleeps. Not a WebSocket client for anything else: frames are counted by their heads, and a message's
 * sending time is read from the digits after "@@". Prints one JSON object.
 *
 * load PORT SOURCE_PORT PID CLIENTS PAYLOAD_BYTES MODE SECONDS ARGUMENT
 *   MODE flight: ARGUMENT messages in flight; the next is published when the oldest has reached everybody
 *   MODE rate:   ARGUMENT messages a second
 *   MODE idle:   connect and wait; resident memory before and after is reported
 *
 * Invariant: a delivery is counted once, when the last byte of its frame has come.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SHAKING, OPEN };
struct client {
    int fd, state;
    uint8_t head[10];
    unsigned head_have;
    uint64_t left;   /* payload bytes still to come */
    int opcode, is_new;
    char stamp[32];  /* the digits after "@@", while they come */
    int stamp_state; /* 0 looking, 1 one '@' seen, 2 in digits, 3 done */
    unsigned stamp_have, shake_have;
};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Nanoseconds that all threads of the server have run. */
static uint64_t cpu_ns(int pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    uint64_t sum = 0;
    struct dirent *entry;
    while (tasks && (entry = readdir(tasks))) {
        char file[400];
        if (entry->d_name[0] == '.') continue;
        snprintf(file, sizeof file, "/proc/%d/task/%s/schedstat", pid, entry->d_name);
        FILE *f = fopen(file, "r");
        unsigned long long ran;
        if (f && fscanf(f, "%llu", &ran) == 1) sum += ran;
        if (f) fclose(f);
    }
    if (tasks) closedir(tasks);
    return sum;
}

static long rss_kb(int pid) {
    char path[64], line[256];
    long kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %ld", &kb) == 1) break;
    if (f) fclose(f);
    return kb;
}

static int dial(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static uint64_t delivered, samples_count, samples_room, shaken;
static uint32_t *samples; /* microseconds */
static int stamps_wanted, recording;

static void sample(struct client *c, uint64_t now) {
    c->stamp[c->stamp_have] = 0;
    uint64_t sent = strtoull(c->stamp, NULL, 10);
    if (!recording || !sent || sent > now) return;
    if (samples_count == samples_room) {
        samples_room = samples_room ? samples_room * 2 : 1 << 20;
        samples = realloc(samples, samples_room * sizeof *samples);
        if (!samples) die("realloc");
    }
    samples[samples_count++] = (uint32_t)((now - sent) / 1000);
}

static void look_for_stamp(struct client *c, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n && c->stamp_state < 3; i++) {
        if (c->stamp_state == 2) {
            if (p[i] >= '0' && p[i] <= '9' && c->stamp_have < 30) c->stamp[c->stamp_have++] = (char)p[i];
            else c->stamp_state = 3;
        } else if (p[i] == '@') c->stamp_state++;
        else c->stamp_state = 0;
    }
}

static void eat(struct client *c, const uint8_t *p, size_t n) {
    while (n) {
        if (c->state == SHAKING) {
            static const char end[] = "\r\n\r\n";
            if (*p == (uint8_t)end[c->shake_have]) c->shake_have++;
            else c->shake_have = *p == '\r';
            p++, n--;
            if (c->shake_have == 4) c->state = OPEN, shaken++;
            continue;
        }
        if (!c->is_new) {
            c->head[c->head_have++] = *p++, n--;
            if (c->head_have < 2) continue;
            unsigned s = c->head[1] & 127, want = s == 126 ? 4 : s == 127 ? 10 : 2;
            if (c->head_have < want) continue;
            c->left = s;
            if (s == 126) c->left = (uint64_t)c->head[2] << 8 | c->head[3];
            if (s == 127) {
                c->left = 0;
                for (int i = 2; i < 10; i++) c->left = c->left << 8 | c->head[i];
            }
            c->opcode = c->head[0] & 15, c->is_new = 1, c->head_have = 0;
            c->stamp_state = 0, c->stamp_have = 0;
        }
        size_t take = c->left < n ? (size_t)c->left : n;
        if (stamps_wanted && c->opcode == 1) look_for_stamp(c, p, take);
        c->left -= take, p += take, n -= take;
        if (!c->left) {
            c->is_new = 0;
            /* Only what the publisher sent counts: a snapshot or a ping has no stamp. */
            if (c->opcode == 1) {
                delivered++;
                if (stamps_wanted && c->stamp_have) sample(c, now_ns());
            }
            if (c->opcode == 9) {
                static const uint8_t pong[6] = {0x8A, 0x80, 0, 0, 0, 0};
                if (write(c->fd, pong, 6) < 0) continue;
            }
        }
    }
}

static uint8_t buffer[1 << 20];

static void drain(struct client *c) {
    ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        fprintf(stderr, "load: a client was closed after %llu deliveries\n", (unsigned long long)delivered);
        exit(1);
    }
    eat(c, buffer, (size_t)got);
}

static int source, poller;
static uint64_t published;
static size_t payload_bytes;

static void publish(void) {
    static char line[1 << 16];
    size_t n = (size_t)snprintf(line, sizeof line, "@@%llu ", (unsigned long long)now_ns());
    while (n < payload_bytes) line[n] = (char)('a' + n % 23), n++;
    line[n++] = '\n';
    size_t at = 0;
    while (at < n) {
        ssize_t put = write(source, line + at, n - at);
        if (put < 0 && errno != EAGAIN) die("publish");
        if (put > 0) at += (size_t)put;
    }
    published++;
}

static int poll_once(int wait_ms) {
    static struct epoll_event events[512];
    int ready = epoll_wait(poller, events, 512, wait_ms);
    for (int i = 0; i < ready; i++) drain(events[i].data.ptr);
    return ready;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    if (argc != 9) return fprintf(stderr, "load: see the top of load.c\n"), 2;
    int port = atoi(argv[1]), source_port = atoi(argv[2]), pid = atoi(argv[3]), n = atoi(argv[4]);
    payload_bytes = (size_t)atol(argv[5]);
    const char *mode = argv[6];
    double seconds = atof(argv[7]), argument = atof(argv[8]);
    poller = epoll_create1(0);
    struct client *clients = calloc((size_t)n, sizeof *clients);
    static const char hello[] =
        "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    long rss_before = rss_kb(pid);
    uint64_t began = now_ns();
    for (int i = 0; i < n; i++) {
        clients[i].fd = dial(port);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &clients[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, clients[i].fd, &e);
        if (write(clients[i].fd, hello, sizeof hello - 1) < 0) die("hello");
        while (i > (int)shaken + 64) poll_once(10);
    }
    while (shaken < (uint64_t)n) poll_once(10);
    double shaking = (double)(now_ns() - began) / 1e9;
    /* Let snapshots and first-use costs pass. */
    for (uint64_t until = now_ns() + 500000000ull; now_ns() < until;) poll_once(10);
    long rss_after = rss_kb(pid);
    if (!strcmp(mode, "idle")) {
        printf("{\"rss_kb_per_connection\": %.3f, \"handshakes_per_s\": %.0f}\n", (double)(rss_after - rss_before) / n,
               n / shaking);
        return 0;
    }
    source = dial(source_port);
    int in_flight = !strcmp(mode, "flight");
    stamps_wanted = !in_flight;
    uint64_t base = delivered, quiet = 0, polls = 0, cpu = 0, start = 0, first = 0;
    uint64_t warm = now_ns() + 300000000ull, end = warm + (uint64_t)(seconds * 1e9);
    uint64_t next = now_ns(), gap = (uint64_t)(1e9 / argument);
    for (uint64_t t = now_ns(); t < end; t = now_ns()) {
        if (!start && t >= warm) start = t, cpu = cpu_ns(pid), first = delivered, recording = 1, quiet = polls = 0;
        if (in_flight) {
            while ((double)published - (double)((delivered - base) / (uint64_t)n) < argument) publish();
        } else if (t >= next) {
            publish();
            next += gap;
        }
        polls++;
        if (!poll_once(0)) quiet++;
    }
    double took = (double)(now_ns() - start) / 1e9;
    uint64_t counted = delivered - first, ran = cpu_ns(pid) - cpu;
    qsort(samples, samples_count, sizeof *samples, by_size);
    printf("{\"deliveries_per_s\": %.1f, \"cpu_us_per_delivery\": %.4f, \"idle_polls\": %.3f, \"seconds\": %.3f",
           (double)counted / took, counted ? (double)ran / 1e3 / (double)counted : 0.0, (double)quiet / (double)polls, took);
    if (samples_count)
        printf(", \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"samples\": %llu", samples[samples_count / 2] / 1e3,
               samples[samples_count * 99 / 100] / 1e3, (unsigned long long)samples_count);
    printf("}\n");
    return 0;
}
