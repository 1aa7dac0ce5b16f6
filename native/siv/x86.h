#pragma once
// What both implementations with instructions for AES and for multiplication without carries share. Every function here is compiled
// for such processors only and becomes part of its caller, so that nothing of it is ever run, or found by the linker, elsewhere.
#include <immintrin.h>

#include <new>

#include "siv/parts.h"

#define SIV_X86 __attribute__((target("aes,pclmul,sse4.1,ssse3")))
#define SIV_X86_INLINE __attribute__((target("aes,pclmul,sse4.1,ssse3"), always_inline)) inline

namespace siv::x86 {

inline constexpr std::size_t kRounds = 14;
inline constexpr std::size_t kPowers = 16;

struct Keys {
  __m128i round[kRounds + 1];
};

struct Own {
  Keys encryption;
  __m128i unused;                // the arrays behind it begin at 32 bytes
  __m128i power[kPowers];        // the authentication key to the power of kPowers − i
  __m128i power_halves[kPowers];  // its two halves added up, in both halves
};
static_assert(sizeof(Keys) <= sizeof(Schedule) && sizeof(Own) <= sizeof(Working));

template <typename As, typename Of>
const As& view(const Of& of) noexcept {
  return *std::launder(reinterpret_cast<const As*>(of.room));
}

SIV_X86_INLINE __m128i load(const std::byte* at) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}
SIV_X86_INLINE void store(std::byte* at, __m128i value) noexcept {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at), value);
}
SIV_X86_INLINE __m128i swap(__m128i value) noexcept { return _mm_shuffle_epi32(value, 0x4e); }

// ---- AES-256 ----

// The last round of encryption does SubBytes; with four equal columns its ShiftRows does nothing.
SIV_X86_INLINE void expand(__m128i low, __m128i high, Keys& keys) noexcept {
  const __m128i rotated = _mm_set1_epi32(0x0c0f0e0d);
  __m128i* round = keys.round;
  round[0] = low;
  round[1] = high;
#pragma GCC unroll 7
  for (int i = 1; i <= 7; i++) {
    const __m128i turned = _mm_shuffle_epi8(high, rotated);
    const __m128i first = _mm_aesenclast_si128(turned, _mm_set1_epi32(1 << (i - 1)));
    low = _mm_xor_si128(low, _mm_slli_si128(low, 4));
    low = _mm_xor_si128(low, _mm_slli_si128(low, 8));
    low = _mm_xor_si128(low, first);
    round[2 * i] = low;
    if (i == 7) break;
    const __m128i second = _mm_aesenclast_si128(_mm_shuffle_epi32(low, 0xff), _mm_setzero_si128());
    high = _mm_xor_si128(high, _mm_slli_si128(high, 4));
    high = _mm_xor_si128(high, _mm_slli_si128(high, 8));
    high = _mm_xor_si128(high, second);
    round[2 * i + 1] = high;
  }
}

template <std::size_t Count>
SIV_X86_INLINE void encrypt(const Keys& keys, __m128i (&unit)[Count]) noexcept {
#pragma GCC unroll 16
  for (std::size_t i = 0; i < Count; i++) unit[i] = _mm_xor_si128(unit[i], keys.round[0]);
#pragma GCC unroll 16
  for (std::size_t r = 1; r < kRounds; r++) {
    const __m128i key = keys.round[r];
#pragma GCC unroll 16
    for (std::size_t i = 0; i < Count; i++) unit[i] = _mm_aesenc_si128(unit[i], key);
  }
#pragma GCC unroll 16
  for (std::size_t i = 0; i < Count; i++) unit[i] = _mm_aesenclast_si128(unit[i], keys.round[kRounds]);
}

// ---- POLYVAL ----

// A product that has not been reduced. `middle` belongs to x^64 and holds all of Karatsuba's third product.
struct Product {
  __m128i low;
  __m128i middle;
  __m128i high;
};

SIV_X86_INLINE __m128i halves(__m128i value) noexcept { return _mm_xor_si128(value, swap(value)); }

SIV_X86_INLINE Product multiply(__m128i a, __m128i b, __m128i b_halves) noexcept {
  return {_mm_clmulepi64_si128(a, b, 0x00), _mm_clmulepi64_si128(halves(a), b_halves, 0x00),
          _mm_clmulepi64_si128(a, b, 0x11)};
}

SIV_X86_INLINE void add(Product& sum, const Product& product) noexcept {
  sum.low = _mm_xor_si128(sum.low, product.low);
  sum.middle = _mm_xor_si128(sum.middle, product.middle);
  sum.high = _mm_xor_si128(sum.high, product.high);
}

// Adds that multiple of the modulus x^128 + x^127 + x^126 + x^121 + 1 which makes the lowest 64 bits zero, and leaves them
// out; twice, which is a division by x^128.
SIV_X86_INLINE __m128i reduce(const Product& p) noexcept {
  const __m128i modulus = _mm_set_epi64x(0, static_cast<long long>(0xc200000000000000ULL));
  const __m128i middle = _mm_xor_si128(p.middle, _mm_xor_si128(p.low, p.high));
  __m128i low = _mm_xor_si128(p.low, _mm_slli_si128(middle, 8));
  const __m128i high = _mm_xor_si128(p.high, _mm_srli_si128(middle, 8));
  low = _mm_xor_si128(swap(low), _mm_clmulepi64_si128(low, modulus, 0x00));
  low = _mm_xor_si128(swap(low), _mm_clmulepi64_si128(low, modulus, 0x00));
  return _mm_xor_si128(high, low);
}

SIV_X86_INLINE __m128i dot(__m128i a, __m128i b) noexcept { return reduce(multiply(a, b, halves(b))); }

SIV_X86_INLINE const __m128i& power(const Own& own, std::size_t exponent) noexcept {
  return own.power[kPowers - exponent];
}
SIV_X86_INLINE const __m128i& power_halves(const Own& own, std::size_t exponent) noexcept {
  return own.power_halves[kPowers - exponent];
}

// ---- Both keys of a nonce ----

// `Powers`: how many of the authentication key are wanted.
template <std::size_t Powers>
SIV_X86_INLINE void derive(const Schedule& key, const std::byte* nonce, Working& working) noexcept {
  std::byte first[kUnit] = {};
  std::memcpy(first + 4, nonce, kNonceBytes);
  const __m128i base = load(first);
  __m128i unit[6];
#pragma GCC unroll 6
  for (int i = 0; i < 6; i++) unit[i] = _mm_or_si128(base, _mm_cvtsi32_si128(i));
  encrypt(view<Keys>(key), unit);
  Own& own = *::new (working.room) Own;
  expand(_mm_unpacklo_epi64(unit[2], unit[3]), _mm_unpacklo_epi64(unit[4], unit[5]), own.encryption);

  __m128i powers[Powers + 1];
  powers[1] = _mm_unpacklo_epi64(unit[0], unit[1]);
  // Half of the exponent each, so that few of them wait for each other.
#pragma GCC unroll 16
  for (std::size_t e = 2; e <= Powers; e++) powers[e] = dot(powers[(e + 1) / 2], powers[e / 2]);
#pragma GCC unroll 16
  for (std::size_t e = 1; e <= Powers; e++) {
    own.power[kPowers - e] = powers[e];
    own.power_halves[kPowers - e] = halves(powers[e]);
  }
}

// ---- What is the same in both tables ----

SIV_X86_INLINE void expand_key(const std::byte* key, Schedule& schedule) noexcept {
  expand(load(key), load(key + kUnit), *::new (schedule.room) Keys);
}

SIV_X86_INLINE void encrypt_one(const Working& working, const std::byte* from, std::byte* to) noexcept {
  __m128i unit[1] = {load(from)};
  encrypt(view<Own>(working).encryption, unit);
  store(to, unit[0]);
}

// Any number of units up to kPowers under one reduction.
SIV_X86_INLINE __m128i absorb_few(const Own& own, __m128i sum, const std::byte* from, std::size_t units) noexcept {
  Product total = multiply(_mm_xor_si128(sum, load(from)), power(own, units), power_halves(own, units));
  for (std::size_t i = 1; i < units; i++)
    add(total, multiply(load(from + i * kUnit), power(own, units - i), power_halves(own, units - i)));
  return reduce(total);
}

// One unit at a time: for what is left over by the wide loops.
SIV_X86_INLINE __m128i stream_few(const Own& own, __m128i counter, const std::byte* from, std::byte* to,
                                  std::size_t units) noexcept {
  for (std::size_t i = 0; i < units; i++) {
    __m128i unit[1] = {counter};
    encrypt(own.encryption, unit);
    counter = _mm_add_epi32(counter, _mm_cvtsi32_si128(1));
    store(to + i * kUnit, _mm_xor_si128(load(from + i * kUnit), unit[0]));
  }
  return counter;
}

}  // namespace siv::x86
