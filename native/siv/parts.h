#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

// What AES-256-GCM-SIV (RFC 8452) is made of. There are several implementations of it; mode.cc puts them together.
namespace siv {

inline constexpr std::size_t kUnit = 16;  // what AES and POLYVAL work on
inline constexpr std::size_t kKeyBytes = 32;
inline constexpr std::size_t kNonceBytes = 12;
inline constexpr std::size_t kTagBytes = 16;

// The round keys of AES-256, in the form that an implementation likes.
struct alignas(64) Schedule {
  std::byte room[15 * 64];
};

// All that belongs to one nonce: the round keys of its encryption key, and what POLYVAL needs of its authentication key.
struct alignas(64) Working {
  std::byte room[1024];
};

struct Parts {
  const char* name;
  // How much of a schedule, and of a working, is used, and has to be wiped.
  std::size_t schedule_bytes;
  std::size_t working_bytes;

  void (*expand)(const std::byte* key, Schedule& schedule) noexcept;
  // Section 4: the keys of this nonce.
  void (*derive)(const Schedule& key, const std::byte* nonce, Working& working) noexcept;
  // One unit.
  void (*encrypt)(const Working& working, const std::byte* from, std::byte* to) noexcept;
  // Section 3: takes `units` more units into `sum`.
  void (*absorb)(const Working& working, std::byte* sum, const std::byte* from, std::size_t units) noexcept;
  // Section 4: adds the key stream from `counter` on, and moves the counter. `from` and `to` are the same, or apart.
  void (*stream)(const Working& working, std::byte* counter, const std::byte* from, std::byte* to,
                 std::size_t units) noexcept;
  // The same, and what comes out is taken into `sum`.
  void (*stream_and_absorb)(const Working& working, std::byte* counter, std::byte* sum, const std::byte* from,
                            std::byte* to, std::size_t units) noexcept;
};

// Runs anywhere, in the same time whatever the bytes are.
[[nodiscard]] const Parts& portable() noexcept;
// Null where they were not compiled, or where this processor lacks the instructions.
[[nodiscard]] const Parts* aesni() noexcept;
[[nodiscard]] const Parts* vaes() noexcept;

// The first 32 bits of a counter go around by themselves (section 4).
inline void add_to_counter(std::byte* counter, std::uint32_t count) noexcept {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = (value << 8) | static_cast<std::uint32_t>(counter[i]);
  value += count;
  for (std::size_t i = 0; i < 4; i++) counter[i] = static_cast<std::byte>(value >> (8 * i));
}

// Not left out by the compiler, though nobody reads it afterwards.
inline void wipe(void* at, std::size_t bytes) noexcept { ::explicit_bzero(at, bytes); }

}  // namespace siv
