/* What every contender of `paceline bench allreduce` shares: the conversation with the driver, memory,
 * pinning and the clock. A contender is a group of rank processes that each keep one connection to the driver
 * and sleep in read until it says what to do, so that contenders that are not being timed take no processor
 * time.
 *
 * The conversation, in lines of text:
 *
 *     rank                                          driver
 *     hello TOKEN RANK PID                   ->
 *     share WORD                             ->     what one rank has to tell the others (rank 0's port)
 *                                            <-     share WORD, to all other ranks
 *     ready                                  ->
 *                                            <-     time BYTES REPEAT BATCHES
 *     ns NANOSECONDS...                      ->     one per batch, of the whole batch
 *                                            <-     check BYTES TOLERANCE
 *     errors COUNT                           ->     elements that are off by more than TOLERANCE
 *                                            <-     quit
 *     error SENTENCE                         ->     at any time, and then the rank exits
 *
 * One batch: the owner writes its whole buffer, all ranks meet at the contender's own barrier, then REPEAT
 * sums in place, back to back, are timed. A rank whose connection ends exits at once, wherever it is. */
#ifndef PACELINE_BENCH_CONTENDER_H
#define PACELINE_BENCH_CONTENDER_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum contender_type {
  contender_f32,
  contender_f64,
  contender_f16,
  contender_bf16,
  contender_i32,
  contender_i64,
  contender_u8
};

/* What the driver asked of this rank. */
struct contender_job {
  int rank;
  int ranks;
  size_t max_bytes; /* of the buffer; sums are of its beginning */
  enum contender_type type;
  const char* folder; /* for what has to be a file; the driver removes it */
  int argc;
  char** argv;
};

/* What a contender brings. A function that cannot do its work calls contender_fail. */
struct contender {
  void* state;
  /* Joins the other ranks. */
  void (*init)(void* state, const struct contender_job* job);
  /* Memory of the contender's own kind, page-aligned; null: ordinary pages. */
  void* (*allocate)(void* state, size_t bytes);
  /* Returns when all ranks have called it. */
  void (*barrier)(void* state);
  /* data[i] = sum over the ranks of data[i], in place. */
  void (*sum)(void* state, void* data, size_t count);
  /* Leaves; the process exits soon after. */
  void (*fini)(void* state);
};

/* A rank's whole life; returns its exit status. */
int contender_main(int argc, char** argv, const struct contender* contender);

/* The value after `name` among the rank's arguments, or `fallback`. */
const char* contender_option(const struct contender_job* job, const char* name, const char* fallback);

/* One word of rank `from` reaches all ranks; `word` holds `capacity` bytes. All ranks call it, during init.
 */
void contender_share(const struct contender_job* job, int from, char* word, size_t capacity);

size_t contender_element_bytes(enum contender_type type);

/* Tells the driver, and exits. */
__attribute__((noreturn, format(printf, 1, 2))) void contender_fail(const char* format, ...);

#ifdef __cplusplus
}
#endif

#endif
