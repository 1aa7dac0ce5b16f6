#pragma once
#include <cstddef>
#include <cstdint>

// XXH64 with seed 0 over memory that was checked by the caller. Hashes are stored little-endian.
namespace hash {

struct Blocks {
  const std::byte* at;
  std::size_t bytes;  // of one block
  std::size_t count;
};

void blocks(Blocks blocks, std::byte* out, std::size_t stride) noexcept;

// Index of the first block whose hash is not the wanted one; −1 when all agree.
[[nodiscard]] std::ptrdiff_t verify(Blocks blocks, const std::byte* want, std::size_t stride) noexcept;

struct Prefix {
  const std::byte* at;
  std::size_t stride;
  std::size_t bytes;
};

// The same two, each hash covering the prefix and then the block.
void blocks_prefixed(Blocks blocks, std::byte* out, std::size_t stride, Prefix prefix) noexcept;
[[nodiscard]] std::ptrdiff_t verify_prefixed(Blocks blocks, const std::byte* want, std::size_t stride,
                                             Prefix prefix) noexcept;

[[nodiscard]] bool is_zero(const std::byte* at, std::size_t length) noexcept;

}  // namespace hash
