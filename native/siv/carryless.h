#pragma once
#include <cstdint>

// POLYVAL's field (RFC 8452, section 3) by ordinary multiplication, in the same time for all values.
namespace siv::carryless {

// An element: bit i of `low` belongs to x^i, bit i of `high` to x^(64 + i).
struct Element {
  std::uint64_t low;
  std::uint64_t high;
};

// a · b · x^-128, modulo x^128 + x^127 + x^126 + x^121 + 1.
[[nodiscard]] Element dot(Element a, Element b) noexcept;

}  // namespace siv::carryless
