#include "siv/mode.h"

namespace siv {

namespace {

// Units that are not whole are filled up with zeros.
void absorb(const Parts& parts, const Working& working, std::byte* sum, const std::byte* from,
            std::size_t bytes) noexcept {
  const std::size_t units = bytes / kUnit;
  const std::size_t rest = bytes % kUnit;
  if (units > 0) parts.absorb(working, sum, from, units);
  if (rest == 0) return;
  std::byte last[kUnit] = {};
  std::memcpy(last, from + units * kUnit, rest);
  parts.absorb(working, sum, last, 1);
  wipe(last, sizeof last);
}

void stream(const Parts& parts, const Working& working, const std::byte* tag, const Message& m) noexcept {
  std::byte counter[kUnit];
  std::memcpy(counter, tag, kUnit);
  counter[15] |= std::byte{0x80};
  const std::size_t units = m.bytes / kUnit;
  const std::size_t rest = m.bytes % kUnit;
  if (units > 0) parts.stream(working, counter, m.from, m.to, units);
  if (rest == 0) return;
  std::byte last[kUnit] = {};
  std::memcpy(last, m.from + units * kUnit, rest);
  parts.stream(working, counter, last, last, 1);
  std::memcpy(m.to + units * kUnit, last, rest);
  wipe(last, sizeof last);
}

// Decrypts and hashes what comes out, in one pass.
void stream_and_absorb(const Parts& parts, const Working& working, const std::byte* tag, std::byte* sum,
                       const Message& m) noexcept {
  std::byte counter[kUnit];
  std::memcpy(counter, tag, kUnit);
  counter[15] |= std::byte{0x80};
  const std::size_t units = m.bytes / kUnit;
  const std::size_t rest = m.bytes % kUnit;
  if (units > 0) parts.stream_and_absorb(working, counter, sum, m.from, m.to, units);
  if (rest == 0) return;
  std::byte last[kUnit] = {};
  std::memcpy(last, m.from + units * kUnit, rest);
  parts.stream(working, counter, last, last, 1);
  std::memset(last + rest, 0, kUnit - rest);
  parts.absorb(working, sum, last, 1);
  std::memcpy(m.to + units * kUnit, last, rest);
  wipe(last, sizeof last);
}

void put_bits(std::byte* at, std::size_t bytes) noexcept {
  const std::uint64_t bits = 8 * static_cast<std::uint64_t>(bytes);
  for (std::size_t i = 0; i < 8; i++) at[i] = static_cast<std::byte>(bits >> (8 * i));
}

void finish(const Parts& parts, const Working& working, std::byte* sum, const Message& m, std::byte* tag) noexcept {
  std::byte lengths[kUnit];
  put_bits(lengths, m.extra_bytes);
  put_bits(lengths + 8, m.bytes);
  parts.absorb(working, sum, lengths, 1);
  for (std::size_t i = 0; i < kNonceBytes; i++) sum[i] ^= m.nonce[i];
  sum[15] &= std::byte{0x7f};
  parts.encrypt(working, sum, tag);
  wipe(sum, kUnit);
}

// As long for different ones as for equal ones.
bool equal(const std::byte* a, const std::byte* b) noexcept {
  std::byte difference{0};
  for (std::size_t i = 0; i < kTagBytes; i++) difference |= a[i] ^ b[i];
  return difference == std::byte{0};
}

}  // namespace

void seal(const Parts& parts, const Schedule& key, const Message& m, std::byte* tag) noexcept {
  Working working;
  parts.derive(key, m.nonce, working);
  std::byte sum[kUnit] = {};
  absorb(parts, working, sum, m.extra, m.extra_bytes);
  absorb(parts, working, sum, m.from, m.bytes);
  finish(parts, working, sum, m, tag);
  stream(parts, working, tag, m);
  wipe(&working, parts.working_bytes);
}

bool open(const Parts& parts, const Schedule& key, const Message& m, const std::byte* tag) noexcept {
  Working working;
  parts.derive(key, m.nonce, working);
  std::byte sum[kUnit] = {};
  absorb(parts, working, sum, m.extra, m.extra_bytes);
  stream_and_absorb(parts, working, tag, sum, m);
  std::byte expected[kTagBytes];
  finish(parts, working, sum, m, expected);
  const bool good = equal(expected, tag);
  if (!good && m.to == m.from)
    stream(parts, working, tag, m);  // the same key stream once more gives back what was there
  else if (!good && m.bytes > 0)
    wipe(m.to, m.bytes);
  wipe(expected, sizeof expected);
  wipe(&working, parts.working_bytes);
  return good;
}

void unopen(const Parts& parts, const Schedule& key, const Message& m, const std::byte* tag) noexcept {
  Working working;
  parts.derive(key, m.nonce, working);
  stream(parts, working, tag, m);
  wipe(&working, parts.working_bytes);
}

}  // namespace siv
