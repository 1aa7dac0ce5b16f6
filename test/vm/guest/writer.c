// Writes numbered blocks into a file or a device until it is told to stop, and records each write.
//
//   writer PATH SLOTS THREADS MODE OUT
//
// PATH   is divided into SLOTS blocks of 4096 bytes; a block is a repetition of u32 slot, u32 write number,
//        little-endian. A thread has the slots whose number is its own, modulo THREADS.
// MODE   direct    O_DIRECT and O_DSYNC: a write counts as acknowledged when it returned
//        buffered  through the page cache, fsync after eight: they count when fsync returned
// OUT    names the results:
//   OUT.now     one line, several times a second: writes errors longest(us) longest-under-way(us) first-errno
//   OUT.log     a line per call: start(us) duration(us) slot write errno; slot - is an fsync
//   OUT.ledger  at the end, per slot: u32 newest acknowledged, u32 newest submitted
//
// SIGTERM ends it, after what is under way has returned. Errors do not: the next write is tried a little later.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, BATCH = 8, THREADS_MAX = 16, PAUSE_US = 50000 };

static const char *path, *out;
static uint32_t slots, threads;
static int buffered;
static uint32_t *acknowledged, *submitted;
static FILE *record;
static pthread_mutex_t record_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint next_write = 1;
static atomic_ulong writes, errors, longest;
static atomic_int first_errno;
static atomic_long under_way[THREADS_MAX];
static volatile sig_atomic_t stop;

static long now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}
static void on_signal(int number) {
  (void)number;
  stop = 1;
}

// Notes the end of a call that began at `start`; answers whether it went well.
static int done(uint32_t thread, long start, long slot, uint32_t write_number, int error) {
  unsigned long took = (unsigned long)(now_us() - start);
  atomic_store(&under_way[thread], 0);
  unsigned long most = atomic_load(&longest);
  while (took > most && !atomic_compare_exchange_weak(&longest, &most, took)) {
  }
  if (error != 0) {
    int none = 0;
    atomic_fetch_add(&errors, 1);
    atomic_compare_exchange_strong(&first_errno, &none, error);
  }
  pthread_mutex_lock(&record_lock);
  if (slot < 0)
    fprintf(record, "%ld %lu - - %d\n", start, took, error);
  else
    fprintf(record, "%ld %lu %ld %u %d\n", start, took, slot, write_number, error);
  pthread_mutex_unlock(&record_lock);
  if (error != 0) usleep(PAUSE_US);
  return error == 0;
}
static long begin(uint32_t thread) {
  long start = now_us();
  atomic_store(&under_way[thread], start);
  return start;
}

static void *work(void *argument) {
  uint32_t thread = (uint32_t)(uintptr_t)argument;
  uint64_t chance = 88172645463325252ull + thread * 2654435761ull;
  uint32_t own = (slots - thread + threads - 1) / threads;
  uint32_t batch[BATCH], numbers[BATCH], count = 0;
  int flags = O_RDWR | O_CREAT | O_CLOEXEC | (buffered ? 0 : O_DIRECT | O_DSYNC);
  int fd = -1;
  uint32_t *block;
  if (posix_memalign((void **)&block, BLOCK, BLOCK) != 0) abort();
  while (!stop) {
    if (fd < 0) {
      long start = begin(thread);
      fd = open(path, flags, 0600);
      if (fd < 0) {
        done(thread, start, -1, 0, errno);
        continue;
      }
      atomic_store(&under_way[thread], 0);
    }
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    uint32_t slot = (uint32_t)(chance % own) * threads + thread;
    uint32_t number = atomic_fetch_add(&next_write, 1);
    for (int i = 0; i < BLOCK / 8; i++) {
      block[2 * i] = slot;
      block[2 * i + 1] = number;
    }
    submitted[slot] = number;
    long start = begin(thread);
    ssize_t wrote = pwrite(fd, block, BLOCK, (off_t)slot * BLOCK);
    int good = done(thread, start, slot, number, wrote == BLOCK ? 0 : wrote < 0 ? errno : EIO);
    if (!good) continue;
    atomic_fetch_add(&writes, 1);
    if (!buffered) {
      acknowledged[slot] = number;
      continue;
    }
    batch[count] = slot;
    numbers[count++] = number;
    if (count < BATCH) continue;
    start = begin(thread);
    if (done(thread, start, -1, 0, fsync(fd) == 0 ? 0 : errno))
      for (uint32_t i = 0; i < count; i++) acknowledged[batch[i]] = numbers[i];
    else {
      // What was dirty then may be gone although a later fsync succeeds.
      close(fd);
      fd = -1;
    }
    count = 0;
  }
  if (fd >= 0) close(fd);
  free(block);
  return NULL;
}

static void tell(void) {
  char name[256], temporary[256];
  long now = now_us(), waiting = 0;
  for (uint32_t i = 0; i < threads; i++) {
    long since = atomic_load(&under_way[i]);
    if (since != 0 && now - since > waiting) waiting = now - since;
  }
  snprintf(name, sizeof name, "%s.now", out);
  snprintf(temporary, sizeof temporary, "%s.tmp", out);
  FILE *file = fopen(temporary, "w");
  if (file == NULL) return;
  fprintf(file, "%lu %lu %lu %ld %d\n", atomic_load(&writes), atomic_load(&errors),
          atomic_load(&longest), waiting, atomic_load(&first_errno));
  fclose(file);
  rename(temporary, name);
}

int main(int count, char **arguments) {
  if (count != 6) {
    fprintf(stderr, "usage: writer PATH SLOTS THREADS direct|buffered OUT\n");
    return 2;
  }
  path = arguments[1];
  slots = (uint32_t)atoi(arguments[2]);
  threads = (uint32_t)atoi(arguments[3]);
  buffered = strcmp(arguments[4], "buffered") == 0;
  out = arguments[5];
  if (threads == 0 || threads > THREADS_MAX || slots < threads) return 2;
  acknowledged = calloc(slots, sizeof *acknowledged);
  submitted = calloc(slots, sizeof *submitted);
  char name[256];
  snprintf(name, sizeof name, "%s.log", out);
  record = fopen(name, "w");
  if (acknowledged == NULL || submitted == NULL || record == NULL) return 1;
  signal(SIGTERM, on_signal);
  pthread_t workers[THREADS_MAX];
  for (uint32_t i = 0; i < threads; i++)
    pthread_create(&workers[i], NULL, work, (void *)(uintptr_t)i);
  while (!stop) {
    tell();
    usleep(200000);
  }
  for (uint32_t i = 0; i < threads; i++) pthread_join(workers[i], NULL);
  tell();
  fclose(record);
  snprintf(name, sizeof name, "%s.ledger", out);
  FILE *ledger = fopen(name, "w");
  if (ledger == NULL) return 1;
  for (uint32_t i = 0; i < slots; i++) {
    fwrite(&acknowledged[i], 4, 1, ledger);
    fwrite(&submitted[i], 4, 1, ledger);
  }
  return fclose(ledger) == 0 ? 0 : 1;
}
