#define _GNU_SOURCE
#include "contender.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "values.h"

enum { line_bytes = 256, huge_page_bytes = 2 << 20, most_batches = 10000, warm_up_sums = 8 };

static int driver = -1; /* the connection; there is one per process */

/* ---- the conversation ---- */

static void say(const char* text, size_t bytes) {
  while (bytes > 0) {
    const ssize_t sent = send(driver, text, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) _exit(1); /* the driver is gone: nobody is left to tell */
    text += sent;
    bytes -= (size_t)sent;
  }
}

__attribute__((format(printf, 1, 2))) static void say_line(const char* format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  for (char* c = line; *c != '\0'; ++c)
    if (*c == '\n') *c = ' ';
  strcat(line, "\n");
  say(line, strlen(line));
}

void contender_fail(const char* format, ...) {
  char sentence[900];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  if (driver >= 0) say_line("error %s", sentence);
  fprintf(stderr, "%s\n", sentence);
  _exit(1);
}

/* The driver's lines are few and short, so that a byte at a time is good enough. */
static void hear(char line[line_bytes]) {
  size_t used = 0;
  for (;;) {
    const ssize_t got = recv(driver, line + used, 1, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) _exit(1);
    if (line[used] == '\n') break;
    if (++used == line_bytes) contender_fail("the driver's line is longer than %d bytes", (int)line_bytes);
  }
  line[used] = '\0';
}

/* Sleeps until the driver is gone and then ends the process, even where it spins in a library that waits for
 * a rank that will never come. */
static void* watch(void* unused) {
  (void)unused;
  struct pollfd connection = {.fd = driver, .events = POLLRDHUP};
  while (poll(&connection, 1, -1) < 0 && errno == EINTR) continue;
  _exit(1);
}

static void start_watching(void) {
  pthread_t thread;
  const int failed = pthread_create(&thread, NULL, watch, NULL);
  if (failed != 0) contender_fail("cannot start a thread: %s", strerror(failed));
  pthread_detach(thread);
}

static void connect_to(const char* place) {
  char host[line_bytes];
  const char* colon = strrchr(place, ':');
  if (colon == NULL || (size_t)(colon - place) >= sizeof host)
    contender_fail("--driver %s is not HOST:PORT", place);
  memcpy(host, place, (size_t)(colon - place));
  host[colon - place] = '\0';
  const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  struct addrinfo* found = NULL;
  const int failed = getaddrinfo(host, colon + 1, &hints, &found);
  if (failed != 0) contender_fail("cannot find the driver at %s: %s", place, gai_strerror(failed));
  for (struct addrinfo* each = found; each != NULL; each = each->ai_next) {
    driver = socket(each->ai_family, each->ai_socktype | SOCK_CLOEXEC, each->ai_protocol);
    if (driver >= 0 && connect(driver, each->ai_addr, each->ai_addrlen) == 0) break;
    if (driver >= 0) close(driver);
    driver = -1;
  }
  freeaddrinfo(found);
  if (driver < 0) contender_fail("cannot connect to the driver at %s: %s", place, strerror(errno));
}

/* ---- what it was asked ---- */

const char* contender_option(const struct contender_job* job, const char* name, const char* fallback) {
  for (int i = 1; i + 1 < job->argc; ++i)
    if (strcmp(job->argv[i], name) == 0) return job->argv[i + 1];
  return fallback;
}

static const char* required(const struct contender_job* job, const char* name) {
  const char* value = contender_option(job, name, NULL);
  if (value == NULL) contender_fail("%s is missing: `paceline bench allreduce` starts this program", name);
  return value;
}

static long long number(const char* text, const char* what, long long least, long long greatest) {
  char* end = NULL;
  errno = 0;
  const long long value = strtoll(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < least || value > greatest)
    contender_fail("%s is %s: it must be a number from %lld to %lld", what, text, least, greatest);
  return value;
}

static int find_rank(const struct contender_job* job) {
  const char* variable = contender_option(job, "--rank-variable", NULL);
  if (variable == NULL) return (int)number(required(job, "--rank"), "--rank", 0, job->ranks - 1);
  const char* value = getenv(variable);
  if (value == NULL) contender_fail("%s is not in the environment: start this with its launcher", variable);
  return (int)number(value, variable, 0, job->ranks - 1);
}

static struct contender_job read_job(int argc, char** argv) {
  struct contender_job job = {.argc = argc, .argv = argv};
  connect_to(required(&job, "--driver"));
  start_watching();
  job.ranks = (int)number(required(&job, "--ranks"), "--ranks", 1, 1 << 20);
  job.rank = find_rank(&job);
  job.max_bytes = (size_t)number(required(&job, "--max-bytes"), "--max-bytes", 1, INT64_MAX);
  job.folder = required(&job, "--folder");
  const char* type = required(&job, "--dtype");
  if (!type_by_name(type, &job.type)) contender_fail("--dtype %s is not known", type);
  return job;
}

/* --cpus 0,1: rank i has the i-th and no other, with all threads that will start. */
static void pin(const struct contender_job* job) {
  const char* list = contender_option(job, "--cpus", NULL);
  if (list == NULL) return;
  for (int i = 0; i < job->rank && list != NULL; ++i) {
    list = strchr(list, ',');
    if (list != NULL) ++list;
  }
  if (list == NULL) contender_fail("--cpus names fewer processors than there are ranks");
  const long cpu = strtol(list, NULL, 10);
  cpu_set_t* set = CPU_ALLOC((size_t)cpu + 1);
  if (set == NULL) contender_fail("out of memory");
  const size_t bytes = CPU_ALLOC_SIZE((size_t)cpu + 1);
  CPU_ZERO_S(bytes, set);
  CPU_SET_S((size_t)cpu, bytes, set);
  if (sched_setaffinity(0, bytes, set) != 0)
    contender_fail("cannot run on processor %ld: %s", cpu, strerror(errno));
  CPU_FREE(set);
}

void contender_share(const struct contender_job* job, int from, char* word, size_t capacity) {
  if (job->rank == from) {
    say_line("share %s", word);
    return;
  }
  char line[line_bytes];
  hear(line);
  if (strncmp(line, "share ", 6) != 0 || strlen(line + 6) >= capacity)
    contender_fail("expected what rank %d shares, but the driver said \"%s\"", from, line);
  strcpy(word, line + 6);
}

/* ---- the work ---- */

/* Whole huge pages where the kernel has them. */
static void* ordinary_pages(size_t bytes) {
  const size_t rounded = (bytes + huge_page_bytes - 1) / huge_page_bytes * huge_page_bytes;
  char* mapped =
      mmap(NULL, rounded + huge_page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) contender_fail("no memory for %zu bytes: %s", bytes, strerror(errno));
  char* data = mapped + (huge_page_bytes - (uintptr_t)mapped % huge_page_bytes) % huge_page_bytes;
  madvise(data, rounded, MADV_HUGEPAGE); /* advice: it works without */
  return data;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t time_batch(const struct contender_job* job, const struct contender* contender, void* data,
                          size_t count, long long repeat) {
  write_timed_values(job, data, count);
  contender->barrier(contender->state);
  const int64_t begin = now_ns();
  for (long long i = 0; i < repeat; ++i) contender->sum(contender->state, data, count);
  return now_ns() - begin;
}

static void time_batches(const struct contender_job* job, const struct contender* contender, void* data,
                         size_t count, long long repeat, long long batches) {
  char* answer = malloc((size_t)batches * 24 + 8);
  if (answer == NULL) contender_fail("out of memory");
  time_batch(job, contender, data, count, repeat < warm_up_sums ? repeat : warm_up_sums);
  size_t used = (size_t)sprintf(answer, "ns");
  for (long long i = 0; i < batches; ++i)
    used +=
        (size_t)sprintf(answer + used, " %lld", (long long)time_batch(job, contender, data, count, repeat));
  used += (size_t)sprintf(answer + used, "\n");
  say(answer, used);
  free(answer);
}

static void check(const struct contender_job* job, const struct contender* contender, void* data,
                  size_t count, double tolerance) {
  write_checked_values(job, data, count);
  contender->barrier(contender->state);
  contender->sum(contender->state, data, count);
  say_line("errors %zu", count_wrong_values(job, data, count, tolerance));
}

static void obey(const struct contender_job* job, const struct contender* contender, void* data) {
  char line[line_bytes];
  for (hear(line); strcmp(line, "quit") != 0; hear(line)) {
    unsigned long long bytes = 0;
    long long repeat = 0, batches = 0;
    double tolerance = 0;
    const int timed = sscanf(line, "time %llu %lld %lld", &bytes, &repeat, &batches) == 3;
    const int checked = sscanf(line, "check %llu %lf", &bytes, &tolerance) == 2;
    const size_t element = contender_element_bytes(job->type);
    if ((!timed && !checked) || bytes > job->max_bytes || bytes % element != 0)
      contender_fail("the driver's \"%s\" makes no sense", line);
    if (timed && (repeat < 1 || batches < 1 || batches > most_batches))
      contender_fail("the driver's \"%s\" has numbers out of range", line);
    if (timed)
      time_batches(job, contender, data, bytes / element, repeat, batches);
    else
      check(job, contender, data, bytes / element, tolerance);
  }
}

int contender_main(int argc, char** argv, const struct contender* contender) {
  const struct contender_job job = read_job(argc, argv);
  say_line("hello %s %d %d", required(&job, "--token"), job.rank, (int)getpid());
  pin(&job);
  contender->init(contender->state, &job);
  void* data = contender->allocate != NULL ? contender->allocate(contender->state, job.max_bytes)
                                           : ordinary_pages(job.max_bytes);
  say_line("ready");
  obey(&job, contender, data);
  contender->fini(contender->state);
  return 0;
}
