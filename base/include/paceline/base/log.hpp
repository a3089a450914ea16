#pragma once

#include <string_view>

#include "paceline/base/text.hpp"

namespace paceline {

enum class LogLevel { debug, info, warning, error };

/// Receives every record that passes the level. May be called from any thread, one call at a time.
using LogSink = void (*)(LogLevel level, std::string_view message);

/// Records below `level` are dropped. The default is `PACELINE_LOG` (debug, info, warning, error), else
/// warning.
void set_log_level(LogLevel level) noexcept;
[[nodiscard]] LogLevel log_level() noexcept;

/// Where records go; null restores the default, one line on standard error. Embedders put their own here.
void set_log_sink(LogSink sink) noexcept;

void log_message(LogLevel level, std::string_view message);

/// Streams its arguments into one record; they are not formatted when the level is off. Thread-safe.
template <class... Parts>
void log(LogLevel level, const Parts&... parts) {
  if (level >= log_level()) log_message(level, concat(parts...));
}

}  // namespace paceline
