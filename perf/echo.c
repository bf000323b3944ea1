/* Answers every DNS query with its own question and the same few octets after it, over UDP and TCP.
 *
 * What a server costs that does nothing: the limit that sockets set here. Also the upstream of the
 * workloads that forward. It understands no DNS beyond where the question ends.
 *
 *     echo ADDRESS PORT TAIL [DELAY LOSS]
 *
 * TAIL is hexadecimal: what follows the question, one resource record, counted as the one answer;
 * or empty, for a response without records. Over UDP, responses leave DELAY milliseconds after their
 * queries came, and of every LOSS queries one gets none; 0 for neither.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LATE = 32768, SHORT = 512 };

/* A response on its way: the queue is in the order of their times, for all are late alike. */
struct late {
    long long due;
    struct sockaddr_in to;
    size_t size;
    unsigned char wire[SHORT];
};

static struct late queue_of_late[LATE];
static size_t late_first, late_count;
static long long delay;
static long loss;

enum { BATCH = 64, QUERY = 4096, REPLY = 65535, HEADER = 12, CONNECTIONS = 1024, EVENTS = 64 };

struct stream {
    unsigned char in[QUERY], *out;
    size_t have, queued, room;
};

static unsigned char tail[REPLY];
static size_t tail_size;
static struct stream *streams[CONNECTIONS];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int digit(char c) {
    const char *digits = "0123456789abcdef", *at = strchr(digits, c);
    if (!c || !at) {
        fprintf(stderr, "TAIL: expected lower-case hexadecimal, got '%c'\n", c);
        exit(2);
    }
    return (int)(at - digits);
}

static void read_tail(const char *text) {
    size_t size = strlen(text);
    if (size % 2 || size / 2 > REPLY - QUERY) {
        fprintf(stderr, "TAIL: expected an even number of digits, at most %d\n", 2 * (REPLY - QUERY));
        exit(2);
    }
    for (; tail_size < size / 2; tail_size++)
        tail[tail_size] = (unsigned char)(digit(text[2 * tail_size]) << 4 | digit(text[2 * tail_size + 1]));
}

/* The length of header and question, 0 for what is no query. */
static size_t question_end(const unsigned char *wire, size_t size) {
    size_t at = HEADER;
    if (size < HEADER || wire[2] & 0x80)
        return 0;
    while (at < size && wire[at])
        at += wire[at] + 1u;
    return at + 5 <= size ? at + 5 : 0;
}

/* The query becomes its own response in place; what follows the question is not sent. */
static void turn(unsigned char *wire) {
    wire[2] |= 0x84;           /* QR, AA */
    wire[3] = 0;               /* NOERROR */
    memset(wire + 6, 0, 6);    /* ANCOUNT, NSCOUNT, ARCOUNT */
    wire[7] = tail_size ? 1 : 0;
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Whether a query is one that gets no response. */
static int is_lost(void) {
    static long seen;
    return loss && ++seen % loss == 0;
}

static void put_off(const unsigned char *wire, size_t size, const struct sockaddr_in *to) {
    if (late_count == LATE || size + tail_size > SHORT)
        return;
    struct late *late = &queue_of_late[(late_first + late_count++) % LATE];
    late->due = now() + delay;
    late->to = *to;
    late->size = size + tail_size;
    memcpy(late->wire, wire, size);
    memcpy(late->wire + size, tail, tail_size);
}

/* Sends what is due; the milliseconds until there is more to send, -1 for never. */
static int send_late(int sock) {
    for (; late_count; late_first = (late_first + 1) % LATE, late_count--) {
        const struct late *late = &queue_of_late[late_first];
        long long left = late->due - now();
        if (left > 0)
            return (int)(left / 1000000) + 1;
        sendto(sock, late->wire, late->size, 0, (const struct sockaddr *)&late->to, sizeof late->to);
    }
    return -1;
}

static void datagrams(int sock) {
    static unsigned char in[BATCH][QUERY];
    static struct sockaddr_in from[BATCH];
    static struct mmsghdr got[BATCH], put[BATCH];
    static struct iovec in_iov[BATCH], out_iov[BATCH][2];
    for (int i = 0; i < BATCH; i++) {
        in_iov[i] = (struct iovec){in[i], QUERY};
        got[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
                                         .msg_namelen = sizeof from[i],
                                         .msg_iov = &in_iov[i],
                                         .msg_iovlen = 1};
    }
    int count = recvmmsg(sock, got, BATCH, MSG_DONTWAIT, NULL), ready = 0;
    for (int i = 0; i < count; i++) {
        size_t size = question_end(in[i], got[i].msg_len);
        if (!size || is_lost())
            continue;
        turn(in[i]);
        if (delay) {
            put_off(in[i], size, &from[i]);
            continue;
        }
        out_iov[ready][0] = (struct iovec){in[i], size};
        out_iov[ready][1] = (struct iovec){tail, tail_size};
        put[ready].msg_hdr = (struct msghdr){.msg_name = &from[i],
                                             .msg_namelen = sizeof from[i],
                                             .msg_iov = out_iov[ready],
                                             .msg_iovlen = 2};
        ready++;
    }
    for (int sent = 0, some; sent < ready; sent += some)
        if ((some = sendmmsg(sock, put + sent, (unsigned)(ready - sent), 0)) < 1)
            some = 1; /* its client is gone */
}

static void end(int poll, int sock) {
    epoll_ctl(poll, EPOLL_CTL_DEL, sock, NULL);
    free(streams[sock]->out);
    free(streams[sock]);
    streams[sock] = NULL;
    close(sock);
}

static void queue(struct stream *stream, unsigned char *wire, size_t size) {
    size_t whole = size + tail_size, need = stream->queued + 2 + whole;
    if (need > stream->room) {
        stream->room = need * 2;
        if (!(stream->out = realloc(stream->out, stream->room)))
            fail("realloc");
    }
    unsigned char *at = stream->out + stream->queued;
    at[0] = (unsigned char)(whole >> 8);
    at[1] = (unsigned char)whole;
    turn(wire);
    memcpy(at + 2, wire, size);
    memcpy(at + 2 + size, tail, tail_size);
    stream->queued = need;
}

/* Reads what there is and answers it; 0 when the connection is to be closed. */
static int converse(int sock, struct stream *stream) {
    ssize_t got = recv(sock, stream->in + stream->have, QUERY - stream->have, MSG_DONTWAIT);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    stream->have += (size_t)got;
    size_t at = 0, size;
    while (stream->have - at >= 2) {
        unsigned char *frame = stream->in + at;
        size_t length = (size_t)(frame[0] << 8 | frame[1]);
        if (length > QUERY - 2)
            return 0;
        if (stream->have - at < 2 + length)
            break;
        if (!(size = question_end(frame + 2, length)))
            return 0;
        queue(stream, frame + 2, size);
        at += 2 + length;
    }
    memmove(stream->in, stream->in + at, stream->have - at);
    stream->have -= at;
    /* Blocking: who does not read its answers gets no more of them, nor does anybody else. */
    for (size_t sent = 0; sent < stream->queued; sent += (size_t)got)
        if ((got = send(sock, stream->out + sent, stream->queued - sent, MSG_NOSIGNAL)) < 0)
            return 0;
    stream->queued = 0;
    return 1;
}

static void welcome(int poll, int listener) {
    int sock = accept(listener, NULL, NULL), on = 1;
    if (sock < 0)
        return;
    if (sock >= CONNECTIONS || !(streams[sock] = calloc(1, sizeof(struct stream)))) {
        close(sock);
        return;
    }
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = sock};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, sock, &event))
        fail("epoll_ctl");
}

static int opened(int poll, int type, const struct sockaddr_in *address) {
    int sock = socket(AF_INET, type, 0), on = 1;
    if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        bind(sock, (const struct sockaddr *)address, sizeof *address))
        fail("bind");
    if (type == SOCK_STREAM && listen(sock, CONNECTIONS))
        fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = sock};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, sock, &event))
        fail("epoll_ctl");
    return sock;
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    if ((argc != 4 && argc != 6) || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) {
        fprintf(stderr, "usage: echo ADDRESS PORT TAIL [DELAY LOSS]\n");
        return 2;
    }
    if (argc == 6) {
        delay = atol(argv[4]) * 1000000LL;
        loss = atol(argv[5]);
    }
    address.sin_port = htons((unsigned short)atoi(argv[2]));
    read_tail(argv[3]);
    int poll = epoll_create1(0);
    if (poll < 0)
        fail("epoll_create1");
    int udp = opened(poll, SOCK_DGRAM, &address), tcp = opened(poll, SOCK_STREAM, &address);
    struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(poll, events, EVENTS, send_late(udp));
        for (int i = 0; i < count; i++) {
            int sock = events[i].data.fd;
            if (sock == udp)
                datagrams(udp);
            else if (sock == tcp)
                welcome(poll, tcp);
            else if (!converse(sock, streams[sock]))
                end(poll, sock);
        }
    }
}
