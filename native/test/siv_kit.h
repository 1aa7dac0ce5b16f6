#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "siv/key.h"
#include "siv/parts.h"

using Bytes = std::vector<std::byte>;

// The same numbers in every run.
class Chance {
 public:
  explicit Chance(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {  // xorshift64*
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return (state_ * 0x2545f4914f6cdd1dULL) >> 16;
  }
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(next() % limit); }
  Bytes bytes(std::size_t count) {
    Bytes all(count);
    for (std::byte& one : all) one = static_cast<std::byte>(next());
    return all;
  }

 private:
  std::uint64_t state_;
};

// Every implementation that this processor can run.
inline std::vector<const siv::Parts*> implementations() {
  std::vector<const siv::Parts*> all{&siv::portable()};
  if (siv::aesni() != nullptr) all.push_back(siv::aesni());
  if (siv::vaes() != nullptr) all.push_back(siv::vaes());
  return all;
}
