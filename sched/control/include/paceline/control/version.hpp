#pragma once

namespace paceline::control {

/// Of the messages in control.proto. Both sides refuse another.
inline constexpr int version = 2;

}  // namespace paceline::control
