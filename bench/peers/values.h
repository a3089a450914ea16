/* The numbers that contenders add up, in every type, and the check of what came out. */
#ifndef PACELINE_BENCH_VALUES_H
#define PACELINE_BENCH_VALUES_H

#include "contender.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "f32" and so on; 0 where there is no such type. */
int type_by_name(const char* name, enum contender_type* type);

/* For timing: the ranks' values cancel, so that any number of sums in place neither overflow nor become
 * subnormal, which would change the speed. */
void write_timed_values(const struct contender_job* job, void* data, size_t count);

/* For checking: small whole numbers that differ along the buffer and between ranks. */
void write_checked_values(const struct contender_job* job, void* data, size_t count);

/* How many elements of the checked values' sum are off by more than `tolerance`. */
size_t count_wrong_values(const struct contender_job* job, const void* data, size_t count, double tolerance);

#ifdef __cplusplus
}
#endif

#endif
