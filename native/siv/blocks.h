#pragma once
#include "siv/key.h"
#include "siv/nonces.h"

// Blocks at rest: each is a message of its own under a nonce of its own, without additional data. Memory was checked by the caller.
namespace siv {

struct Blocks {
  const std::byte* from;
  std::byte* to;  // the same as `from`, or apart from all of it
  std::size_t bytes;  // of one block
  std::size_t count;
};

// Nonce and, right behind it, tag of the i-th block stand at `at + i · stride`.
struct Rows {
  std::byte* at;
  std::size_t stride;
};
inline constexpr std::size_t kRowBytes = kNonceBytes + kTagBytes;

// Fills the rows, and when `hashes` is not null the i-th integrity hash at `hashes + i · stride`: XXH64 of nonce, tag and sealed
// block. Without `nonces` it takes those that stand in the rows.
void seal_blocks(const Key& key, Nonces* nonces, const Blocks& blocks, const Rows& rows, std::byte* hashes) noexcept;

// All blocks or none: index of a block whose tag is not the right one (the first such); −1: all were opened. When not, the memory at
// `from` is as it was, and that at `to`, where it is another, is zero.
[[nodiscard]] std::ptrdiff_t open_blocks(const Key& key, const Blocks& blocks, const Rows& rows) noexcept;

// Takes back what `open_blocks` did in place.
void unopen_blocks(const Key& key, const Blocks& blocks, const Rows& rows) noexcept;

}  // namespace siv
