/* The native load of the benchmark: commands to a host (or to whatever answers like one).
 *
 *   load zeromq|lane ENDPOINT get|set|fill|churn KEYS COMMANDS MESSAGES WINDOW [TABLE]
 *       A client that speaks memstore's native protocol (transport/message.ts) through a DEALER, or through a lane
 *       (transport/shared/lane.ts; Linux only): MESSAGES messages of COMMANDS commands each, WINDOW of them in
 *       flight. Keys have 12 bytes, values 32: those of client.ts. `get` and `set` take random keys among KEYS,
 *       `fill` sets all, one after another, and `churn` leaves them alone: it inserts others, and deletes each when
 *       CHURNED more have been inserted. It sets one entry and checks that it gets its value, and prints `ready`,
 *       before the clock starts.
 *   load req ENDPOINT SOCKETS REQUESTS
 *       SOCKETS legacy clients (REQ), each with one `get` in flight.
 *
 * Prints: commands a second, seconds of processor time used, wrong replies.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t state = 88172645463325252ull;

static uint64_t xorshift(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static void report(double commands, double start, long wrong) {
  struct rusage usage;
  double seconds = now() - start;
  getrusage(RUSAGE_SELF, &usage);
  printf("%.0f %.3f %ld\n", commands / seconds,
         usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
         wrong);
  fflush(stdout);
}

static const char *table = "t";

/* How many entries `churn` has in the table at a time. */
enum { CHURNED = 10000 };
/* The bytes of a command at most, but for the table's name. */
enum { COMMAND = 64 };

/* Writes one command, ["get" or "del", table, key] or ["set", table, key, value], and returns where it ends. */
static char *command(char *p, const char *name, long key) {
  const int set = name[0] == 's';
  const size_t length = strlen(table);
  char text[32];
  *p++ = set ? 0x94 : 0x93;
  *p++ = (char)0xa3;
  memcpy(p, name, 3);
  p += 3;
  *p++ = (char)(0xa0 | length);
  memcpy(p, table, length);
  p += length;
  *p++ = (char)0xac;
  snprintf(text, sizeof text, "%012ld", key);
  memcpy(p, text, 12);
  p += 12;
  if (set) {
    *p++ = (char)0xd9;
    *p++ = 32;
    memcpy(p, text, 12);
    memset(p + 12, 'v', 20);
    p += 32;
  }
  return p;
}

static void fail(const char *what) {
  fprintf(stderr, "Cannot load the host: %s\n", what);
  exit(1);
}

/* A way for messages: sends one, and waits for the reply to one. The reply's payload is valid until the next call. */
struct transport {
  void (*send)(const char *payload, size_t size);
  const char *(*receive)(size_t *size);
};

static const char header[2] = {0x4d, 1};

static void *dealer;

static void dealer_open(const char *endpoint) {
  const int none = 0;
  dealer = zmq_socket(zmq_ctx_new(), ZMQ_DEALER);
  zmq_setsockopt(dealer, ZMQ_SNDHWM, &none, sizeof none);
  zmq_setsockopt(dealer, ZMQ_RCVHWM, &none, sizeof none);
  if (zmq_connect(dealer, endpoint) != 0) fail("it has no such endpoint");
}

static void dealer_send(const char *payload, size_t size) {
  zmq_send(dealer, "", 0, ZMQ_SNDMORE);
  zmq_send(dealer, header, sizeof header, ZMQ_SNDMORE);
  zmq_send(dealer, payload, size, 0);
}

static const char *dealer_receive(size_t *size) {
  static zmq_msg_t frame;
  static int used;
  for (int more = 1; more;) {
    if (used) zmq_msg_close(&frame);
    zmq_msg_init(&frame);
    used = 1;
    if (zmq_msg_recv(&frame, dealer, 0) < 0) fail("its socket is closed");
    more = zmq_msg_more(&frame);
  }
  *size = zmq_msg_size(&frame);
  return zmq_msg_data(&frame);
}

#ifdef __linux__

enum { LANE_HEADER = 1 << 16, RING = 1 << 17, RECORD = 16, YIELDS = 40, NAP_NS = 5000000 };
/* How an end sleeps. */
enum { AT_CONNECTION = 1, AT_WORD = 2 };
/* The words of a lane's header, by their index. */
enum { ATTACHED = 16, REQUEST_TAIL = 32, REQUEST_HEAD = 48, HOST_SLEEPS = 64 };
enum { REPLY_TAIL = 80, REPLY_HEAD = 96, CLIENT_SLEEPS = 112 };

static _Atomic uint32_t *lane;
/* Each ring is mapped twice, one behind the other: every record is in one piece. */
static char *requests, *replies;

/* Reads a MessagePack integer that is not negative. */
static long integer(const unsigned char **p) {
  const unsigned char type = *(*p)++;
  const int bytes = type == 0xcc ? 1 : type == 0xcd ? 2 : type == 0xce ? 4 : type == 0xcf ? 8 : 0;
  long value = bytes == 0 ? type : 0;
  for (int i = 0; i < bytes; i++) value = value << 8 | *(*p)++;
  return value;
}

/* Asks for a lane, over the DEALER: the reply is {"pid": …, "fd": …, "token": 16 bytes}. */
static void lane_open(void) {
  size_t size;
  long pid = 0, number = 0;
  char path[64], *at;
  unsigned char token[16] = {0};
  dealer_send("\x91\xa4lane", 6);
  const unsigned char *p = (const unsigned char *)dealer_receive(&size), *end = p + size;
  if (size < 2 || *p++ != 0 || *p++ != 0x83) fail("it offers no lane");
  while (p < end) {
    const char *key = (const char *)p;
    p += 1 + (*p & 0x1f);
    if (memcmp(key, "\xa3pid", 4) == 0) pid = integer(&p);
    else if (memcmp(key, "\xa2" "fd", 3) == 0) number = integer(&p);
    else {
      memcpy(token, p + 2, sizeof token);
      p += 2 + sizeof token;
    }
  }
  snprintf(path, sizeof path, "/proc/%ld/fd/%ld", pid, number);
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  at = mmap(NULL, LANE_HEADER + 4 * RING, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  const struct { long to, bytes, from; } parts[] = {
      {0, LANE_HEADER, 0},
      {LANE_HEADER, RING, LANE_HEADER},
      {LANE_HEADER + RING, RING, LANE_HEADER},
      {LANE_HEADER + 2 * RING, RING, LANE_HEADER + RING},
      {LANE_HEADER + 3 * RING, RING, LANE_HEADER + RING},
  };
  for (int i = 0; i < 5; i++) {
    void *mapped = mmap(at + parts[i].to, parts[i].bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                        parts[i].from);
    if (mapped == MAP_FAILED) fail("its lane cannot be mapped");
  }
  if (memcmp(at, "MSML\1\0\0\0", 8) != 0 || memcmp(at + 16, token, sizeof token) != 0) fail("its lane is another");
  lane = (_Atomic uint32_t *)at;
  requests = at + LANE_HEADER;
  replies = requests + 2 * RING;
  lane[ATTACHED] = 1;
}

static size_t record_bytes(size_t message) {
  return (message + RECORD + 15) & ~(size_t)15;
}

static void lane_send(const char *payload, size_t size) {
  static uint32_t tail;
  const uint32_t length = sizeof header + size, bytes = record_bytes(length);
  /* (The window is smaller than the ring.) */
  if (bytes > RING - (tail - lane[REQUEST_HEAD])) fail("there is no room in its lane");
  char *record = requests + tail % RING;
  const uint32_t head[4] = {length, sizeof header, 0, 0};
  memcpy(record, head, RECORD);
  memcpy(record + RECORD, header, sizeof header);
  memcpy(record + RECORD + sizeof header, payload, size);
  lane[REQUEST_TAIL] = tail += bytes;
  if (lane[HOST_SLEEPS] == 0) return;
  const uint32_t how = atomic_exchange(&lane[HOST_SLEEPS], 0);
  if (how == AT_WORD) syscall(SYS_futex, &lane[HOST_SLEEPS], FUTEX_WAKE, 1, NULL, NULL, 0);
  if (how == AT_CONNECTION) zmq_send(dealer, "", 0, 0);
}

/* Waits until the reply ring's tail moves: lets others run, naps at the word, then sleeps until the doorbell. */
static void lane_wait(uint32_t tail) {
  for (int i = 0; i < YIELDS; i++) {
    if (lane[REPLY_TAIL] != tail) return;
    sched_yield();
  }
  const struct timespec nap = {0, NAP_NS};
  lane[CLIENT_SLEEPS] = AT_WORD;
  if (lane[REPLY_TAIL] == tail) syscall(SYS_futex, &lane[CLIENT_SLEEPS], FUTEX_WAIT, AT_WORD, &nap, NULL, 0);
  lane[CLIENT_SLEEPS] = AT_CONNECTION;
  if (lane[REPLY_TAIL] == tail) {
    size_t size;
    dealer_receive(&size);
    if (size > 0) fail("it answered outside its lane");
  }
  lane[CLIENT_SLEEPS] = 0;
}

static const char *lane_receive(size_t *size) {
  static uint32_t head, taken;
  /* The reader has used the last reply, and the host may write there. */
  lane[REPLY_HEAD] = head += taken;
  while (lane[REPLY_TAIL] == head) lane_wait(head);
  const char *record = replies + head % RING;
  uint32_t words[4];
  memcpy(words, record, RECORD);
  if (words[2] != 0) fail("it answered outside its lane");
  taken = record_bytes(words[0]);
  *size = words[0] - words[1];
  return record + RECORD + words[1];
}

#else

static void lane_open(void) {
  fail("lanes need Linux");
}
#define lane_send dealer_send
#define lane_receive dealer_receive

#endif

static const struct transport ZEROMQ = {dealer_send, dealer_receive}, LANE = {lane_send, lane_receive};

/* Sets an entry and gets it: is it what was set? */
static void check(struct transport through) {
  char payload[2 * (COMMAND + 32)], *p = command(payload, "set", 0);
  const char *value = p - 32, *reply;
  size_t size;
  p = command(p, "get", 0);
  through.send(payload, p - payload);
  reply = through.receive(&size);
  /* 0 and 1 for set; 0 and 34 bytes of a value for get. */
  if (size != 37 || memcmp(reply + 5, value, 32) != 0) fail("the value read is not the value set");
}

/* Writes the command of a number. */
static char *numbered(char *p, const char *what, long keys, long number) {
  if (strcmp(what, "fill") == 0) return command(p, "set", number % keys);
  if (strcmp(what, "churn") != 0) return command(p, what, (long)(xorshift() % keys));
  return number % 2 == 0 ? command(p, "set", keys + CHURNED + number / 2) : command(p, "del", keys + number / 2);
}

static int batch(char **arg, struct transport through) {
  const char *what = arg[0];
  const int commands = atoi(arg[2]), window = atoi(arg[4]);
  const long keys = atol(arg[1]), messages = atol(arg[3]);
  const size_t expected = (size_t)commands * (strcmp(what, "get") == 0 ? 35 : 2);
  char *payload = malloc((size_t)commands * (COMMAND + strlen(table)));
  long sent = 0, received = 0, next = 0, wrong = 0;
  state ^= (uint64_t)(now() * 1e9);
  check(through);
  puts("ready");
  fflush(stdout);
  const double start = now();
  while (received < messages) {
    for (; sent < messages && sent - received < window; sent++) {
      char *p = payload;
      for (int i = 0; i < commands; i++) p = numbered(p, what, keys, next++);
      through.send(payload, p - payload);
    }
    size_t size;
    through.receive(&size);
    if (size != expected) wrong++;
    received++;
  }
  report((double)messages * commands, start, wrong);
  return 0;
}

static int req(char **arg) {
  const int count = atoi(arg[1]);
  const long requests = atol(arg[2]);
  char request[64], reply[256];
  const size_t length = command(request, "get", 1) - request;
  void *context = zmq_ctx_new(), **sockets = malloc(sizeof(void *) * count);
  zmq_pollitem_t *items = calloc(count, sizeof *items);
  long received = 0;
  double start;
  for (int i = 0; i < count; i++) {
    items[i].socket = sockets[i] = zmq_socket(context, ZMQ_REQ);
    items[i].events = ZMQ_POLLIN;
    if (zmq_connect(sockets[i], arg[0]) != 0) return 1;
  }
  start = now();
  for (int i = 0; i < count; i++) zmq_send(sockets[i], request, length, 0);
  while (received < requests) {
    if (zmq_poll(items, count, -1) < 0) return 1;
    for (int i = 0; i < count; i++) {
      if (!(items[i].revents & ZMQ_POLLIN)) continue;
      zmq_recv(sockets[i], reply, sizeof reply, 0);
      received++;
      zmq_send(sockets[i], request, length, 0);
    }
  }
  report((double)requests, start, 0);
  return 0;
}

int main(int count, char **arg) {
  int failed = 2;
  if (count >= 8 && (strcmp(arg[1], "zeromq") == 0 || strcmp(arg[1], "lane") == 0)) {
    const int through_lane = arg[1][0] == 'l';
    dealer_open(arg[2]);
    if (through_lane) lane_open();
    if (count > 8 && strlen(arg[8]) < 32) table = arg[8];
    failed = batch(arg + 3, through_lane ? LANE : ZEROMQ);
  }
  if (count == 5 && strcmp(arg[1], "req") == 0) failed = req(arg + 2);
  /* (Requests may still be in flight: nobody waits for their replies.) */
  _exit(failed);
}
