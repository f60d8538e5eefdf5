/* The native load of the benchmark: commands to a host (or to whatever answers like one) over libzmq.
 *
 *   load batch ENDPOINT get|set KEYS COMMANDS MESSAGES WINDOW [fill]
 *       A DEALER that speaks memstore's native protocol (wire/message.ts): MESSAGES messages of COMMANDS
 *       commands each, WINDOW of them under way, on random keys of 12 bytes among KEYS (with `fill`: on all,
 *       one after another), with values of 32 bytes.
 *   load req ENDPOINT SOCKETS REQUESTS
 *       SOCKETS legacy clients (REQ), each with one `get` under way.
 *
 * Prints: commands a second, seconds of processor time used, wrong replies.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

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

/* Writes one command, ["get", "t", key] or ["set", "t", key, value], and answers where it ends. */
static char *command(char *p, int set, long key) {
  char text[16];
  *p++ = set ? 0x94 : 0x93;
  *p++ = (char)0xa3;
  memcpy(p, set ? "set" : "get", 3);
  p += 3;
  *p++ = (char)0xa1;
  *p++ = 't';
  *p++ = (char)0xac;
  snprintf(text, sizeof text, "%012ld", key);
  memcpy(p, text, 12);
  p += 12;
  if (set) {
    *p++ = (char)0xc4;
    *p++ = 32;
    memset(p, 'v', 32);
    p += 32;
  }
  return p;
}

static int batch(char **arg, int fill) {
  const int set = strcmp(arg[1], "set") == 0, commands = atoi(arg[3]), window = atoi(arg[5]), none = 0;
  const long keys = atol(arg[2]), messages = atol(arg[4]);
  /* A reply: 0 and 1 for set; 0 and 34 bytes of a value for get. */
  const size_t expected = (size_t)commands * (set ? 2 : 35);
  const char header[2] = {0x4d, 1};
  char *payload = malloc((size_t)commands * 64);
  void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER);
  long sent = 0, received = 0, next = 0, wrong = 0;
  double start;
  state ^= (uint64_t)(now() * 1e9);
  zmq_setsockopt(socket, ZMQ_SNDHWM, &none, sizeof none);
  zmq_setsockopt(socket, ZMQ_RCVHWM, &none, sizeof none);
  if (zmq_connect(socket, arg[0]) != 0) return 1;
  start = now();
  while (received < messages) {
    for (; sent < messages && sent - received < window; sent++) {
      char *p = payload;
      for (int i = 0; i < commands; i++) p = command(p, set, fill ? next++ % keys : (long)(xorshift() % keys));
      zmq_send(socket, "", 0, ZMQ_SNDMORE);
      zmq_send(socket, header, 2, ZMQ_SNDMORE);
      zmq_send(socket, payload, p - payload, 0);
    }
    size_t size = 0;
    for (int more = 1; more;) {
      zmq_msg_t frame;
      zmq_msg_init(&frame);
      if (zmq_msg_recv(&frame, socket, 0) < 0) return 1;
      size = zmq_msg_size(&frame);
      more = zmq_msg_more(&frame);
      zmq_msg_close(&frame);
    }
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
  const size_t length = command(request, 0, 1) - request;
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
  if (count >= 8 && strcmp(arg[1], "batch") == 0) failed = batch(arg + 2, count > 8);
  if (count == 5 && strcmp(arg[1], "req") == 0) failed = req(arg + 2);
  /* (Requests may still be under way: nobody waits for their replies.) */
  _exit(failed);
}
