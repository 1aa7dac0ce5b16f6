#pragma once
#include <cstdint>
#include <cstring>

// Integers as NBD sends them.
namespace attach {

[[nodiscard]] inline std::uint16_t load16(const std::uint8_t* from) noexcept {
  return static_cast<std::uint16_t>(from[0] << 8 | from[1]);
}
[[nodiscard]] inline std::uint32_t load32(const std::uint8_t* from) noexcept {
  return std::uint32_t{load16(from)} << 16 | load16(from + 2);
}
[[nodiscard]] inline std::uint64_t load64(const std::uint8_t* from) noexcept {
  return std::uint64_t{load32(from)} << 32 | load32(from + 4);
}
inline void store16(std::uint8_t* to, std::uint32_t value) noexcept {
  to[0] = static_cast<std::uint8_t>(value >> 8);
  to[1] = static_cast<std::uint8_t>(value);
}
inline void store32(std::uint8_t* to, std::uint32_t value) noexcept {
  store16(to, value >> 16);
  store16(to + 2, value);
}
inline void store64(std::uint8_t* to, std::uint64_t value) noexcept {
  store32(to, static_cast<std::uint32_t>(value >> 32));
  store32(to + 4, static_cast<std::uint32_t>(value));
}

}  // namespace attach
