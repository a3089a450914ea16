#pragma once

namespace paceline::control {

/// Of the messages in control.proto. Both sides refuse another.
inline constexpr int version = 1;

}  // namespace paceline::control
