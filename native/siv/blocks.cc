#include "siv/blocks.h"

#include "hash/hash.h"
#include "siv/mode.h"

namespace siv {

namespace {

Message message(const Blocks& blocks, const std::byte* row, std::size_t i) noexcept {
  return {row, blocks.from + i * blocks.bytes, blocks.to + i * blocks.bytes, blocks.bytes};
}

// Index of the first block that does not open, or how many were opened.
std::size_t open_until(const Key& key, const Blocks& blocks, const Rows& rows) noexcept {
  for (std::size_t i = 0; i < blocks.count; i++) {
    const std::byte* row = rows.at + i * rows.stride;
    if (!open(key.parts(), key.schedule(), message(blocks, row, i), row + kNonceBytes)) return i;
  }
  return blocks.count;
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
  sweep_stack();
}

std::ptrdiff_t open_blocks(const Key& key, const Blocks& blocks, const Rows& rows) noexcept {
  const std::size_t opened = open_until(key, blocks, rows);
  const bool all = opened == blocks.count;
  if (!all && blocks.from == blocks.to)
    unopen_blocks(key, {blocks.from, blocks.to, blocks.bytes, opened}, rows);
  else if (!all)
    wipe(blocks.to, blocks.count * blocks.bytes);
  sweep_stack();
  return all ? -1 : static_cast<std::ptrdiff_t>(opened);
}

void unopen_blocks(const Key& key, const Blocks& blocks, const Rows& rows) noexcept {
  for (std::size_t i = 0; i < blocks.count; i++) {
    const std::byte* row = rows.at + i * rows.stride;
    unopen(key.parts(), key.schedule(), message(blocks, row, i), row + kNonceBytes);
  }
  sweep_stack();
}

}  // namespace siv
