#include "siv/blocks.h"

#include "hash/hash.h"
#include "siv/mode.h"

namespace siv {

namespace {

Message message(const Blocks& blocks, const std::byte* row, std::size_t i) noexcept {
  return {row, blocks.from + i * blocks.bytes, blocks.to + i * blocks.bytes, blocks.bytes};
}

}  // namespace

void seal_blocks(const Key& key, Nonces* nonces, const Blocks& blocks, const Rows& rows, std::byte* hashes) noexcept {
  for (std::size_t i = 0; i < blocks.count; i++) {
    std::byte* row = rows.at + i * rows.stride;
    if (nonces != nullptr) nonces->take(row);
    seal(key.parts(), key.schedule(), message(blocks, row, i), row + kNonceBytes);
    // While the block is still in the processor's cache.
    if (hashes == nullptr) continue;
    hash::blocks_prefixed({blocks.to + i * blocks.bytes, blocks.bytes, 1}, hashes + i * rows.stride, 0,
                          {row, 0, kRowBytes});
  }
}

std::ptrdiff_t open_blocks(const Key& key, const Blocks& blocks, const Rows& rows) noexcept {
  for (std::size_t i = 0; i < blocks.count; i++) {
    const std::byte* row = rows.at + i * rows.stride;
    if (open(key.parts(), key.schedule(), message(blocks, row, i), row + kNonceBytes)) continue;
    if (blocks.from != blocks.to) wipe(blocks.to, blocks.count * blocks.bytes);
    else unopen_blocks(key, {blocks.from, blocks.to, blocks.bytes, i}, rows);
    return static_cast<std::ptrdiff_t>(i);
  }
  return -1;
}

void unopen_blocks(const Key& key, const Blocks& blocks, const Rows& rows) noexcept {
  for (std::size_t i = 0; i < blocks.count; i++) {
    const std::byte* row = rows.at + i * rows.stride;
    unopen(key.parts(), key.schedule(), message(blocks, row, i), row + kNonceBytes);
  }
}

}  // namespace siv
