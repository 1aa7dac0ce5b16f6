#include "siv/carryless.h"

namespace siv::carryless {

namespace {

using u64 = std::uint64_t;
__extension__ using u128 = unsigned __int128;

// Ordinary multiplication, but its carries are kept from doing harm: each factor is taken in four parts, of which each has only
// every fourth bit, so that three zeros stand before each next one. A place of a product of two such parts gets at most as many ones
// as a part has bits: with 15 of them the sum fits into four bits, of which the lowest is what we want. So the upper four bits of one factor,
// its sixteenth ones, are left to be added one by one.
Element multiply(u64 a, u64 b) noexcept {
  constexpr u64 kEvery = 0x1111111111111111ULL;
  constexpr u64 kUpper = 0xf000000000000000ULL;
  constexpr u128 kMask = (static_cast<u128>(kEvery) << 64) | kEvery;
  u64 x[4];
  u64 y[4];
  for (unsigned i = 0; i < 4; i++) {
    x[i] = a & (kEvery << i);
    y[i] = b & ~kUpper & (kEvery << i);
  }
  u128 product = 0;
  for (unsigned i = 0; i < 4; i++) {
    u128 sum = 0;
    for (unsigned j = 0; j < 4; j++) sum ^= static_cast<u128>(x[j]) * y[(i - j) & 3U];
    product |= sum & (kMask << i);
  }
  for (unsigned i = 60; i < 64; i++) product ^= static_cast<u128>(a & (0 - ((b >> i) & 1U))) << i;
  return {static_cast<u64>(product), static_cast<u64>(product >> 64)};
}

// Adds that multiple of the modulus which makes the lowest 64 bits zero, and leaves them out.
Element fold(Element e) noexcept {
  const u64 w = e.low;
  return {e.high ^ (w << 63) ^ (w << 62) ^ (w << 57), w ^ (w >> 1) ^ (w >> 2) ^ (w >> 7)};
}

}  // namespace

Element dot(Element a, Element b) noexcept {
  // Karatsuba: three products instead of four.
  const Element low = multiply(a.low, b.low);
  const Element high = multiply(a.high, b.high);
  Element middle = multiply(a.low ^ a.high, b.low ^ b.high);
  middle.low ^= low.low ^ high.low;
  middle.high ^= low.high ^ high.high;
  const Element folded = fold(fold({low.low, low.high ^ middle.low}));
  return {folded.low ^ high.low ^ middle.high, folded.high ^ high.high};
}

}  // namespace siv::carryless
