#pragma once
#include <cstddef>
#include <cstdint>

// AES-256 for processors without instructions for it, four units at a time, without a table or a branch that would depend on
// a key or on data.
namespace siv::bitslice {

// Bit b of all 64 bytes of four units stands in plane b. Byte (row r, column c) of unit k is at bit 16·r + 4·c + k, so
// that moving along a row is a rotation of 16 bits, and moving along a column a rotation of the whole plane.
struct Planes {
  std::uint64_t bit[8];
};

inline constexpr std::size_t kRounds = 14;

// The round keys, each four times.
struct Keys {
  Planes round[kRounds + 1];
};

void expand(const std::byte* key, Keys& keys) noexcept;

// Four units at `from` become four at `to`.
void encrypt(const Keys& keys, const std::byte* from, std::byte* to) noexcept;

}  // namespace siv::bitslice
