#pragma once

#include <algorithm>
#include <cstring>

#include "handles.hpp"
#include "paceline/base/text.hpp"

// Structs of options that begin with their size and get longer in later versions.

namespace paceline::c_api {

/// What the caller knows of the struct over the defaults of what it does not. `first_bytes`: of its first
/// version; one that is shorter was not made by its _init.
template <class Options>
Result<Options> whole(const Options* given, Options defaults, std::size_t first_bytes, const char* name) {
  if (given == nullptr) return defaults;
  std::size_t bytes = 0;
  std::memcpy(&bytes, given, sizeof bytes);
  if (bytes < first_bytes)
    return Error{ErrorCode::invalid_argument, concat(name, ".size is ", bytes, ", which is less than ",
                                                     first_bytes, ": fill it with ", name, "_init")};
  // A caller made for a later version may set what this one does not know, but not ask for it.
  const auto* raw = reinterpret_cast<const unsigned char*>(given);
  if (bytes > 4096 || std::any_of(raw + std::min(bytes, sizeof defaults), raw + bytes,
                                  [](unsigned char byte) { return byte != 0; }))
    return Error{ErrorCode::unsupported,
                 concat(name, " has members that this library, version ", PACELINE_ALLREDUCE_VERSION_MAJOR,
                        ".", PACELINE_ALLREDUCE_VERSION_MINOR, ", does not know: use a newer one")};
  std::memcpy(static_cast<void*>(&defaults), given, std::min(bytes, sizeof defaults));
  return defaults;
}

/// Fills a struct of `size` bytes, of whatever version, with the defaults.
template <class Options>
int init(Options* options, std::size_t size, Options defaults, std::size_t first_bytes, const char* name) {
  return guarded([&]() -> Status {
    if (options == nullptr) return Error{ErrorCode::invalid_argument, concat(name, "_init: options is null")};
    if (size < first_bytes)
      return Error{ErrorCode::invalid_argument,
                   concat(name, "_init: size is ", size, ": give it sizeof(", name, ")")};
    std::memset(static_cast<void*>(options), 0, size);
    defaults.size = size;
    std::memcpy(static_cast<void*>(options), &defaults, std::min(size, sizeof defaults));
    return {};
  });
}

}  // namespace paceline::c_api
