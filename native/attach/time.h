#pragma once
#include <ctime>

#include <cstdint>

namespace attach {

// Milliseconds of a clock that never jumps.
[[nodiscard]] inline std::int64_t now_ms() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace attach
