#pragma once

// How threads walk over arrays. Elements are taken in *groups*, which every array is read or written by in
// one access: the widest type's group is 16 bytes. Groups begin at the first element at which all arrays are
// aligned for that; the elements before it (the head) and behind the last group (the tail) go one by one.
// Arrays that are never aligned at the same element go one by one altogether: correct, and slower.

#include <initializer_list>

#include "host_device.cuh"

namespace paceline::cuda::kernels {

/// Elements [0, head), then `groups` groups, then `tail` elements.
struct Split {
  std::size_t head = 0;
  std::size_t groups = 0;
  std::size_t tail = 0;
};

/// An array, by where it begins and the bytes of an element. Null: there is none.
struct Array {
  const void* begin;
  std::size_t element_bytes;
};

inline bool all_aligned(std::initializer_list<Array> arrays, std::size_t element, std::size_t group) {
  for (const Array& array : arrays) {
    const auto at = reinterpret_cast<std::uintptr_t>(array.begin) + element * array.element_bytes;
    if (array.begin != nullptr && at % (group * array.element_bytes) != 0) return false;
  }
  return true;
}

inline Split split(std::initializer_list<Array> arrays, std::size_t group, std::size_t count) {
  for (std::size_t head = 0; head < group && head + group <= count; ++head)
    if (all_aligned(arrays, head, group)) {
      const std::size_t groups = (count - head) / group;
      return {head, groups, count - head - groups * group};
    }
  return {0, 0, count};
}

/// Threads that have something to do.
inline std::size_t workers_for(const Split& split) {
  const std::size_t single = split.head + split.tail;
  return split.groups > single ? split.groups : single;
}

/// `n` elements that are one access, if their address allows it.
template <class T, int n>
struct alignas(sizeof(T) * n) Pack {
  T at[n];
};

template <int n, class T>
PACELINE_HD Pack<T, n> load(const T* from) {
  return *reinterpret_cast<const Pack<T, n>*>(from);
}

template <int n, class T>
PACELINE_HD void store(T* to, const Pack<T, n>& pack) {
  *reinterpret_cast<Pack<T, n>*>(to) = pack;
}

/// What one of `workers` threads does. A Share has
///   group, unroll     elements per access; accesses that are under way before the first is used
///   Loaded<n>, load<n>(first), finish<n>(first, loaded)      for n = group and n = 1
/// Whatever is loaded is loaded before anything is stored: an output may be an input itself.
template <class Share>
PACELINE_HD void walk(Share& share, const Split& split, std::size_t worker, std::size_t workers) {
  constexpr int group = Share::group;
  constexpr int unroll = Share::unroll;
  std::size_t g = worker;
  for (; g + (unroll - 1) * workers < split.groups; g += unroll * workers) {
    typename Share::template Loaded<group> loaded[unroll];
    PACELINE_UNROLL
    for (int j = 0; j < unroll; ++j)
      loaded[j] = share.template load<group>(split.head + (g + j * workers) * group);
    PACELINE_UNROLL
    for (int j = 0; j < unroll; ++j)
      share.template finish<group>(split.head + (g + j * workers) * group, loaded[j]);
  }
  for (; unroll > 1 && g < split.groups; g += workers) {
    const std::size_t first = split.head + g * group;
    share.template finish<group>(first, share.template load<group>(first));
  }
  for (std::size_t i = worker; i < split.head + split.tail; i += workers) {
    const std::size_t element = i < split.head ? i : i + split.groups * group;
    share.template finish<1>(element, share.template load<1>(element));
  }
}

}  // namespace paceline::cuda::kernels
