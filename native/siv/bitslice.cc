#include "siv/bitslice.h"

#include <bit>

#include "siv/parts.h"

namespace siv::bitslice {

namespace {

using u64 = std::uint64_t;

std::uint32_t load32(const std::byte* at) noexcept {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = (value << 8) | static_cast<std::uint32_t>(at[i]);
  return value;
}

void store32(std::byte* at, std::uint32_t value) noexcept {
  for (std::size_t i = 0; i < 4; i++) at[i] = static_cast<std::byte>(value >> (8 * i));
}

// ---- Between bytes and planes ----

// The bytes of a column go to the even bytes of a word, and back.
u64 spread(std::uint32_t column) noexcept {
  u64 x = column;
  x = (x | (x << 16)) & 0x0000ffff0000ffffULL;
  return (x | (x << 8)) & 0x00ff00ff00ff00ffULL;
}

std::uint32_t gather(u64 x) noexcept {
  x &= 0x00ff00ff00ff00ffULL;
  x = (x | (x >> 8)) & 0x0000ffff0000ffffULL;
  return static_cast<std::uint32_t>(x | (x >> 16));
}

// Exchanges the bits of `a` under the mask's complement with those of `b` under the mask.
template <unsigned Shift>
void exchange(u64& a, u64& b, u64 mask) noexcept {
  const u64 difference = ((a >> Shift) ^ b) & mask;
  b ^= difference;
  a ^= difference << Shift;
}

// In each byte column: bit i of word w becomes bit w of word i. Its own inverse.
void transpose(Planes& p) noexcept {
  u64* w = p.bit;
  for (int i = 0; i < 8; i += 2) exchange<1>(w[i], w[i + 1], 0x5555555555555555ULL);
  for (int i = 0; i < 8; i += 4) {
    exchange<2>(w[i], w[i + 2], 0x3333333333333333ULL);
    exchange<2>(w[i + 1], w[i + 3], 0x3333333333333333ULL);
  }
  for (int i = 0; i < 4; i++) exchange<4>(w[i], w[i + 4], 0x0f0f0f0f0f0f0f0fULL);
}

void load(Planes& p, const std::byte* from) noexcept {
  for (std::size_t k = 0; k < 4; k++) {
    const std::byte* unit = from + k * kUnit;
    p.bit[k] = spread(load32(unit)) | (spread(load32(unit + 8)) << 8);
    p.bit[4 + k] = spread(load32(unit + 4)) | (spread(load32(unit + 12)) << 8);
  }
  transpose(p);
}

void store(Planes& p, std::byte* to) noexcept {
  transpose(p);
  for (std::size_t k = 0; k < 4; k++) {
    std::byte* unit = to + k * kUnit;
    store32(unit, gather(p.bit[k]));
    store32(unit + 8, gather(p.bit[k] >> 8));
    store32(unit + 4, gather(p.bit[4 + k]));
    store32(unit + 12, gather(p.bit[4 + k] >> 8));
  }
}

// ---- The round ----

// The circuit of J. Boyar and R. Peralta, "A depth-16 circuit for the AES S-box" (2011), with their names: 23 gates go down to
// the field of 16 elements, where the inverse is made, 30 come back.
void substitute(Planes& p) noexcept {
  const u64 u0 = p.bit[7], u1 = p.bit[6], u2 = p.bit[5], u3 = p.bit[4];
  const u64 u4 = p.bit[3], u5 = p.bit[2], u6 = p.bit[1], u7 = p.bit[0];

  const u64 t1 = u0 ^ u3, t2 = u0 ^ u5, t3 = u0 ^ u6, t4 = u3 ^ u5, t5 = u4 ^ u6;
  const u64 t6 = t1 ^ t5, t7 = u1 ^ u2, t8 = u7 ^ t6, t9 = u7 ^ t7, t10 = t6 ^ t7;
  const u64 t11 = u1 ^ u5, t12 = u2 ^ u5, t13 = t3 ^ t4, t14 = t6 ^ t11, t15 = t5 ^ t11;
  const u64 t16 = t5 ^ t12, t17 = t9 ^ t16, t18 = u3 ^ u7, t19 = t7 ^ t18, t20 = t1 ^ t19;
  const u64 t21 = u6 ^ u7, t22 = t7 ^ t21, t23 = t2 ^ t22, t24 = t2 ^ t10, t25 = t20 ^ t17;
  const u64 t26 = t3 ^ t16, t27 = t1 ^ t12;

  const u64 m1 = t13 & t6, m2 = t23 & t8, m3 = t14 ^ m1, m4 = t19 & u7, m5 = m4 ^ m1;
  const u64 m6 = t3 & t16, m7 = t22 & t9, m8 = t26 ^ m6, m9 = t20 & t17, m10 = m9 ^ m6;
  const u64 m11 = t1 & t15, m12 = t4 & t27, m13 = m12 ^ m11, m14 = t2 & t10, m15 = m14 ^ m11;
  const u64 m16 = m3 ^ m2, m17 = m5 ^ t24, m18 = m8 ^ m7, m19 = m10 ^ m15, m20 = m16 ^ m13;
  const u64 m21 = m17 ^ m15, m22 = m18 ^ m13, m23 = m19 ^ t25, m24 = m22 ^ m23, m25 = m22 & m20;
  const u64 m26 = m21 ^ m25, m27 = m20 ^ m21, m28 = m23 ^ m25, m29 = m28 & m27, m30 = m26 & m24;
  const u64 m31 = m20 & m23, m32 = m27 & m31, m33 = m27 ^ m25, m34 = m21 & m22, m35 = m24 & m34;
  const u64 m36 = m24 ^ m25, m37 = m21 ^ m29, m38 = m32 ^ m33, m39 = m23 ^ m30, m40 = m35 ^ m36;
  const u64 m41 = m38 ^ m40, m42 = m37 ^ m39, m43 = m37 ^ m38, m44 = m39 ^ m40, m45 = m42 ^ m41;
  const u64 m46 = m44 & t6, m47 = m40 & t8, m48 = m39 & u7, m49 = m43 & t16, m50 = m38 & t9;
  const u64 m51 = m37 & t17, m52 = m42 & t15, m53 = m45 & t27, m54 = m41 & t10, m55 = m44 & t13;
  const u64 m56 = m40 & t23, m57 = m39 & t19, m58 = m43 & t3, m59 = m38 & t22, m60 = m37 & t20;
  const u64 m61 = m42 & t1, m62 = m45 & t4, m63 = m41 & t2;

  const u64 l0 = m61 ^ m62, l1 = m50 ^ m56, l2 = m46 ^ m48, l3 = m47 ^ m55, l4 = m54 ^ m58;
  const u64 l5 = m49 ^ m61, l6 = m62 ^ l5, l7 = m46 ^ l3, l8 = m51 ^ m59, l9 = m52 ^ m53;
  const u64 l10 = m53 ^ l4, l11 = m60 ^ l2, l12 = m48 ^ m51, l13 = m50 ^ l0, l14 = m52 ^ m61;
  const u64 l15 = m55 ^ l1, l16 = m56 ^ l0, l17 = m57 ^ l1, l18 = m58 ^ l8, l19 = m63 ^ l4;
  const u64 l20 = l0 ^ l1, l21 = l1 ^ l7, l22 = l3 ^ l12, l23 = l18 ^ l2, l24 = l15 ^ l9;
  const u64 l25 = l6 ^ l10, l26 = l7 ^ l9, l27 = l8 ^ l10, l28 = l11 ^ l14, l29 = l11 ^ l17;

  p.bit[7] = l6 ^ l24;
  p.bit[6] = ~(l16 ^ l26);
  p.bit[5] = ~(l19 ^ l28);
  p.bit[4] = l6 ^ l21;
  p.bit[3] = l20 ^ l22;
  p.bit[2] = l25 ^ l29;
  p.bit[1] = ~(l13 ^ l27);
  p.bit[0] = ~(l6 ^ l23);
}

// Row r goes r columns to the left: each group of 16 bits is rotated by 4·r.
void shift_rows(Planes& p) noexcept {
  for (u64& x : p.bit)
    x = (x & 0x000000000000ffffULL) |                                                   //
        ((x >> 4) & 0x000000000fff0000ULL) | ((x << 12) & 0x00000000f0000000ULL) |      //
        ((x >> 8) & 0x000000ff00000000ULL) | ((x << 8) & 0x0000ff0000000000ULL) |       //
        ((x >> 12) & 0x000f000000000000ULL) | ((x << 4) & 0xfff0000000000000ULL);
}

// Each byte becomes 2·(itself + the next) + the next + (the one after that + the last), downwards in its column.
void mix_columns(Planes& p) noexcept {
  u64 next[8];
  u64 pair[8];
  for (int b = 0; b < 8; b++) {
    next[b] = std::rotr(p.bit[b], 16);
    pair[b] = p.bit[b] ^ next[b];
  }
  for (int b = 0; b < 8; b++) {
    u64 twice = b == 0 ? 0 : pair[b - 1];
    if (b == 0 || b == 1 || b == 3 || b == 4) twice ^= pair[7];  // x^8 = x^4 + x^3 + x + 1
    p.bit[b] = twice ^ next[b] ^ std::rotr(pair[b], 32);
  }
}

void add(Planes& p, const Planes& key) noexcept {
  for (int b = 0; b < 8; b++) p.bit[b] ^= key.bit[b];
}

std::uint32_t substitute_word(std::uint32_t word) noexcept {
  Planes p{};
  p.bit[0] = spread(word);
  transpose(p);
  substitute(p);
  transpose(p);
  return gather(p.bit[0]);
}

}  // namespace

void expand(const std::byte* key, Keys& keys) noexcept {
  constexpr std::size_t kWords = 4 * (kRounds + 1);
  std::uint32_t words[kWords];
  for (std::size_t i = 0; i < 8; i++) words[i] = load32(key + 4 * i);
  std::uint32_t constant = 1;
  for (std::size_t i = 8; i < kWords; i++) {
    std::uint32_t word = words[i - 1];
    if (i % 8 == 0) {
      word = substitute_word(std::rotr(word, 8)) ^ constant;
      constant <<= 1;
    } else if (i % 8 == 4) {
      word = substitute_word(word);
    }
    words[i] = words[i - 8] ^ word;
  }
  std::byte four[4 * kUnit];
  for (std::size_t round = 0; round <= kRounds; round++) {
    for (std::size_t i = 0; i < 16; i++) store32(four + 4 * i, words[4 * round + i % 4]);
    load(keys.round[round], four);
  }
  wipe(words, sizeof words);
  wipe(four, sizeof four);
}

void encrypt(const Keys& keys, const std::byte* from, std::byte* to) noexcept {
  Planes state;
  load(state, from);
  add(state, keys.round[0]);
  for (std::size_t round = 1; round < kRounds; round++) {
    substitute(state);
    shift_rows(state);
    mix_columns(state);
    add(state, keys.round[round]);
  }
  substitute(state);
  shift_rows(state);
  add(state, keys.round[kRounds]);
  store(state, to);
}

}  // namespace siv::bitslice
