/*
 * A switch of network devices that holds every packet back for a time (the kernel here has no netem), and a ping:
 *
 *   relay MICROSECONDS DEVICE...       until it is killed; writes a line once it runs
 *   relay ping ADDRESS COUNT           the median round trip in microseconds
 *
 * Packets keep what the kernel has left undone of them (checksums, segments): PACKET_VNET_HDR. The time counts from the
 * kernel's own time of arrival, so that this process may be woken late; shortly before a packet is due it does not sleep.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_PORTS 16
#define MOST_ADDRESSES 64
#define HEADER ((int)sizeof(struct virtio_net_hdr))
#define MOST_BYTES (HEADER + 65536 + ETH_HLEN)
#define SPIN_NS 60000

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int fail(const char *what) {
  perror(what);
  exit(1);
}

struct packet {
  struct packet *next;
  long long due;
  int to, length; /* to: a port, or ~port of the sender for all others */
  unsigned char bytes[];
};

static int ports, sockets[MOST_PORTS], addresses;
static struct { unsigned char mac[ETH_ALEN]; int port; } known[MOST_ADDRESSES];

static int port_of(const unsigned char *mac) {
  for (int i = 0; i < addresses; i++)
    if (!memcmp(known[i].mac, mac, ETH_ALEN)) return known[i].port;
  return -1;
}

static int open_port(const char *device) {
  int s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), on = 1, bytes = 64 << 20;
  struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex(device)};
  if (s < 0 || setsockopt(s, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) ||
      setsockopt(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) ||
      setsockopt(s, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) ||
      setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) ||
      setsockopt(s, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) || bind(s, (struct sockaddr *)&at, sizeof at))
    fail(device);
  return s;
}

/* The next packet of a port; NULL where there is none. */
static struct packet *receive(int from, long long delay) {
  static unsigned char bytes[MOST_BYTES];
  char control[128];
  struct iovec part = {bytes, sizeof bytes};
  struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t length = recvmsg(sockets[from], &m, MSG_DONTWAIT);
  if (length < HEADER + ETH_HLEN) return NULL;
  struct packet *p = malloc(sizeof *p + length);
  p->next = NULL;
  p->length = length;
  p->due = now() + delay;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
    if (c->cmsg_type == SCM_TIMESTAMPNS) {
      struct timespec t;
      memcpy(&t, CMSG_DATA(c), sizeof t);
      p->due = t.tv_sec * 1000000000LL + t.tv_nsec + delay;
    }
  memcpy(p->bytes, bytes, length);
  const unsigned char *to = bytes + HEADER, *sender = to + ETH_ALEN;
  if (port_of(sender) < 0 && addresses < MOST_ADDRESSES) {
    memcpy(known[addresses].mac, sender, ETH_ALEN);
    known[addresses++].port = from;
  }
  p->to = port_of(to) < 0 ? ~from : port_of(to);
  return p;
}

static void relay(long long delay) {
  struct packet *first = NULL, **end = &first;
  struct pollfd polls[MOST_PORTS];
  for (int i = 0; i < ports; i++) polls[i] = (struct pollfd){sockets[i], POLLIN, 0};
  for (;;) {
    long long left = first ? first->due - now() - SPIN_NS : 1000000000;
    struct timespec wait = {left / 1000000000, left % 1000000000};
    if (left > 0) ppoll(polls, ports, &wait, NULL);
    for (int i = 0; i < ports; i++) {
      struct packet *p;
      for (int k = 0; k < 32 && (p = receive(i, delay)); k++) {
        *end = p;
        end = &p->next;
      }
    }
    while (first && first->due <= now()) {
      struct packet *p = first;
      for (int i = 0; i < ports; i++)
        if (i == p->to || (p->to < 0 && i != ~p->to)) send(sockets[i], p->bytes, p->length, 0);
      if (!(first = p->next)) end = &first;
      free(p);
    }
  }
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double ping(const char *address, int count) {
  int s = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  struct timeval most = {1, 0};
  struct sockaddr_in to = {.sin_family = AF_INET};
  double *times = malloc(count * sizeof *times);
  if (s < 0 || !inet_aton(address, &to.sin_addr)) fail(address);
  setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
  for (int i = 0; i < count; i++) {
    /* of bytes that are zero but for type and number, the checksum is their complement */
    struct icmphdr ask = {.type = ICMP_ECHO, .un.echo.sequence = htons(i)};
    ask.checksum = ~(unsigned short)(htons(ICMP_ECHO << 8) + ask.un.echo.sequence);
    unsigned char answer[256];
    long long start = now();
    if (sendto(s, &ask, sizeof ask, 0, (struct sockaddr *)&to, sizeof to) < 0) fail("sendto");
    do
      if (recv(s, answer, sizeof answer, 0) < 0) fail(address);
    while (answer[20] != ICMP_ECHOREPLY || memcmp(answer + 26, &ask.un.echo.sequence, 2));
    times[i] = (now() - start) / 1e3;
    usleep(2000);
  }
  qsort(times, count, sizeof *times, by_size);
  return times[count / 2];
}

int main(int count, char **words) {
  prctl(PR_SET_TIMERSLACK, 1);
  struct sched_param first = {1};
  sched_setscheduler(0, SCHED_FIFO, &first);
  if (count == 4 && !strcmp(words[1], "ping")) return printf("%.1f\n", ping(words[2], atoi(words[3]))) < 0;
  for (ports = 0; ports < count - 2 && ports < MOST_PORTS; ports++) sockets[ports] = open_port(words[ports + 2]);
  mlockall(MCL_CURRENT | MCL_FUTURE);
  puts("ready");
  fflush(stdout);
  relay(atof(words[1]) * 1e3);
}
