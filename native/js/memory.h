#pragma once
#include "arena/arena.h"

// Memory that JavaScript names places in.
struct Memory {
  std::byte* base;
  std::size_t bytes;

  // `count` items of `each` bytes, one every `stride`: the memory from the first to the last, or null.
  [[nodiscard]] std::byte* spread(double at, double each, double count, double stride) const noexcept {
    if (!(count >= 1) || !(stride >= 0) || !(each >= 0)) return nullptr;
    return arena::within(base, bytes, at, (count - 1) * stride + each);
  }
};
