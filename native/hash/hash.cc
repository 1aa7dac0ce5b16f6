#include "hash/hash.h"

#include <bit>
#include <cstring>

#define XXH_INLINE_ALL
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <xxhash.h>
#pragma GCC diagnostic pop

namespace hash {

namespace {

std::uint64_t load(const std::byte* at) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, at, sizeof value);
  if constexpr (std::endian::native == std::endian::big) value = __builtin_bswap64(value);
  return value;
}

void store(std::byte* at, std::uint64_t value) noexcept {
  if constexpr (std::endian::native == std::endian::big) value = __builtin_bswap64(value);
  std::memcpy(at, &value, sizeof value);
}

std::uint64_t prefixed(const Blocks& blocks, const Prefix& prefix, std::size_t i) noexcept {
  XXH64_state_t state;
  XXH64_reset(&state, 0);
  XXH64_update(&state, prefix.at + i * prefix.stride, prefix.bytes);
  XXH64_update(&state, blocks.at + i * blocks.bytes, blocks.bytes);
  return XXH64_digest(&state);
}

}  // namespace

void blocks(Blocks blocks, std::byte* out, std::size_t stride) noexcept {
  for (std::size_t i = 0; i < blocks.count; i++)
    store(out + i * stride, XXH64(blocks.at + i * blocks.bytes, blocks.bytes, 0));
}

std::ptrdiff_t verify(Blocks blocks, const std::byte* want, std::size_t stride) noexcept {
  for (std::size_t i = 0; i < blocks.count; i++)
    if (XXH64(blocks.at + i * blocks.bytes, blocks.bytes, 0) != load(want + i * stride))
      return static_cast<std::ptrdiff_t>(i);
  return -1;
}

void blocks_prefixed(Blocks blocks, std::byte* out, std::size_t stride, Prefix prefix) noexcept {
  for (std::size_t i = 0; i < blocks.count; i++) store(out + i * stride, prefixed(blocks, prefix, i));
}

std::ptrdiff_t verify_prefixed(Blocks blocks, const std::byte* want, std::size_t stride, Prefix prefix) noexcept {
  for (std::size_t i = 0; i < blocks.count; i++)
    if (prefixed(blocks, prefix, i) != load(want + i * stride)) return static_cast<std::ptrdiff_t>(i);
  return -1;
}

// Memory that equals itself shifted by 16 bytes, and begins with 16 zeros, is zero throughout; memcmp
// is the fastest reader there is on every machine.
bool is_zero(const std::byte* at, std::size_t length) noexcept {
  constexpr std::size_t head = 16;
  for (std::size_t i = 0; i < length && i < head; i++)
    if (at[i] != std::byte{0}) return false;
  return length <= head || std::memcmp(at, at + head, length - head) == 0;
}

}  // namespace hash
