#include "values.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { tile_bytes = 4096, value_period = 13, rank_period = 4 };

static const char* const names[] = {"f32", "f64", "f16", "bf16", "i32", "i64", "u8"};
static const size_t element_sizes[] = {4, 8, 2, 2, 4, 8, 1};

int type_by_name(const char* name, enum contender_type* type) {
  for (int i = 0; i < (int)(sizeof names / sizeof names[0]); ++i) {
    if (strcmp(name, names[i]) != 0) continue;
    *type = (enum contender_type)i;
    return 1;
  }
  return 0;
}

size_t contender_element_bytes(enum contender_type type) {
  return element_sizes[type];
}

/* f16 and bf16 of small whole numbers, for which no rounding is needed. */
static uint16_t to_half(float value, enum contender_type type) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (type == contender_bf16) return (uint16_t)(bits >> 16);
  if (value == 0) return (uint16_t)(bits >> 16 & 0x8000);
  const uint32_t exponent = (bits >> 23 & 0xff) - 127 + 15;
  return (uint16_t)((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff));
}

static double from_half(uint16_t half, enum contender_type type) {
  if (type == contender_bf16) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
  const int exponent = half >> 10 & 0x1f;
  const int fraction = half & 0x3ff;
  const double sign = half & 0x8000 ? -1 : 1;
  if (exponent == 0x1f) return fraction != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * ldexp(fraction, -24);
  return sign * ldexp(fraction + 0x400, exponent - 25);
}

static void put(enum contender_type type, void* data, size_t i, int value) {
  switch (type) {
    case contender_f32: ((float*)data)[i] = (float)value; break;
    case contender_f64: ((double*)data)[i] = value; break;
    case contender_f16:
    case contender_bf16: ((uint16_t*)data)[i] = to_half((float)value, type); break;
    case contender_i32: ((int32_t*)data)[i] = value; break;
    case contender_i64: ((int64_t*)data)[i] = value; break;
    case contender_u8: ((uint8_t*)data)[i] = (uint8_t)value; break;
  }
}

static double get(enum contender_type type, const void* data, size_t i) {
  switch (type) {
    case contender_f32: return ((const float*)data)[i];
    case contender_f64: return ((const double*)data)[i];
    case contender_f16:
    case contender_bf16: return from_half(((const uint16_t*)data)[i], type);
    case contender_i32: return ((const int32_t*)data)[i];
    case contender_i64: return (double)((const int64_t*)data)[i];
    case contender_u8: return ((const uint8_t*)data)[i];
  }
  return NAN;
}

void write_timed_values(const struct contender_job* job, void* data, size_t count) {
  const int last = job->rank == job->ranks - 1;
  const int value = last ? 1 - job->ranks : 1; /* of all ranks: zero */
  const size_t element = contender_element_bytes(job->type);
  unsigned char tile[tile_bytes];
  for (size_t i = 0; i < tile_bytes / element; ++i) put(job->type, tile, i, value);
  const size_t bytes = count * element;
  for (size_t at = 0; at < bytes; at += tile_bytes)
    memcpy((unsigned char*)data + at, tile, bytes - at < tile_bytes ? bytes - at : tile_bytes);
}

static int checked_value(size_t i, int rank) {
  return (int)(i % value_period) + rank % rank_period + 1;
}

void write_checked_values(const struct contender_job* job, void* data, size_t count) {
  for (size_t i = 0; i < count; ++i) put(job->type, data, i, checked_value(i, job->rank));
}

size_t count_wrong_values(const struct contender_job* job, const void* data, size_t count, double tolerance) {
  double expected[value_period];
  for (int i = 0; i < value_period; ++i) {
    int sum = 0;
    for (int rank = 0; rank < job->ranks; ++rank) sum += checked_value((size_t)i, rank);
    expected[i] = job->type == contender_u8 ? (uint8_t)sum : sum;
  }
  size_t wrong = 0;
  for (size_t i = 0; i < count; ++i) {
    const double difference = fabs(get(job->type, data, i) - expected[i % value_period]);
    wrong += !(difference <= tolerance); /* NaN is wrong too */
  }
  return wrong;
}
