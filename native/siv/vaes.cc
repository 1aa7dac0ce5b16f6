// The parts by VAES and VPCLMULQDQ: sixteen units at a time, two in each register of 256 bits.
#include "siv/parts.h"

#if defined(__x86_64__)

#include "siv/x86.h"

#define SIV_VAES __attribute__((target("aes,pclmul,sse4.1,ssse3,avx2,vaes,vpclmulqdq")))
#define SIV_VAES_INLINE __attribute__((target("aes,pclmul,sse4.1,ssse3,avx2,vaes,vpclmulqdq"), always_inline)) inline

namespace siv {

namespace {

using x86::load;
using x86::Own;
using x86::store;
using x86::view;

constexpr std::size_t kPairs = 8;
constexpr std::size_t kWide = 2 * kPairs;
static_assert(kWide == x86::kPowers);

SIV_VAES_INLINE __m256i load_pair(const std::byte* at) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

SIV_VAES void expand(const std::byte* key, Schedule& schedule) noexcept { x86::expand_key(key, schedule); }

SIV_VAES void derive(const Schedule& key, const std::byte* nonce, Working& working) noexcept {
  x86::derive<kWide>(key, nonce, working);
}

SIV_VAES void encrypt(const Working& working, const std::byte* from, std::byte* to) noexcept {
  x86::encrypt_one(working, from, to);
}

struct Product {
  __m256i low;
  __m256i middle;
  __m256i high;
};

// Two units times two powers, which stand in the order of the units.
SIV_VAES_INLINE Product multiply(const Own& own, __m256i pair, std::size_t index) noexcept {
  const __m256i powers = _mm256_load_si256(reinterpret_cast<const __m256i*>(own.power) + index);
  const __m256i halves = _mm256_load_si256(reinterpret_cast<const __m256i*>(own.power_halves) + index);
  const __m256i pair_halves = _mm256_xor_si256(pair, _mm256_shuffle_epi32(pair, 0x4e));
  return {_mm256_clmulepi64_epi128(pair, powers, 0x00), _mm256_clmulepi64_epi128(pair_halves, halves, 0x00),
          _mm256_clmulepi64_epi128(pair, powers, 0x11)};
}

SIV_VAES_INLINE void add(Product& sum, const Product& product) noexcept {
  sum.low = _mm256_xor_si256(sum.low, product.low);
  sum.middle = _mm256_xor_si256(sum.middle, product.middle);
  sum.high = _mm256_xor_si256(sum.high, product.high);
}

SIV_VAES_INLINE __m128i both(__m256i pair) noexcept {
  return _mm_xor_si128(_mm256_castsi256_si128(pair), _mm256_extracti128_si256(pair, 1));
}

SIV_VAES_INLINE __m128i absorb_wide(const Own& own, __m128i sum, const std::byte* from) noexcept {
  Product total = multiply(own, load_pair(from + 2 * kUnit), 1);
#pragma GCC unroll 8
  for (std::size_t i = 2; i < kPairs; i++) add(total, multiply(own, load_pair(from + 2 * i * kUnit), i));
  // Last, as it waits for what was before.
  add(total, multiply(own, _mm256_xor_si256(_mm256_zextsi128_si256(sum), load_pair(from)), 0));
  return x86::reduce({both(total.low), both(total.middle), both(total.high)});
}

// Both lanes of `counter` count, the upper one ahead by one.
SIV_VAES_INLINE __m256i stream_wide(const Own& own, __m256i counter, const std::byte* from, std::byte* to) noexcept {
  __m256i pair[kPairs];
  const __m256i first = _mm256_broadcastsi128_si256(own.encryption.round[0]);
#pragma GCC unroll 8
  for (int i = 0; i < static_cast<int>(kPairs); i++)
    pair[i] = _mm256_xor_si256(_mm256_add_epi32(counter, _mm256_set_epi32(0, 0, 0, 2 * i, 0, 0, 0, 2 * i)), first);
#pragma GCC unroll 16
  for (std::size_t r = 1; r < x86::kRounds; r++) {
    const __m256i key = _mm256_broadcastsi128_si256(own.encryption.round[r]);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kPairs; i++) pair[i] = _mm256_aesenc_epi128(pair[i], key);
  }
  const __m256i last = _mm256_broadcastsi128_si256(own.encryption.round[x86::kRounds]);
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kPairs; i++) {
    const __m256i pad = _mm256_aesenclast_epi128(pair[i], last);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 2 * i * kUnit),
                        _mm256_xor_si256(load_pair(from + 2 * i * kUnit), pad));
  }
  constexpr int kStep = static_cast<int>(kWide);
  return _mm256_add_epi32(counter, _mm256_set_epi32(0, 0, 0, kStep, 0, 0, 0, kStep));
}

SIV_VAES_INLINE __m256i begin(const std::byte* counter) noexcept {
  return _mm256_add_epi32(_mm256_broadcastsi128_si256(load(counter)), _mm256_set_epi32(0, 0, 0, 1, 0, 0, 0, 0));
}

SIV_VAES void absorb(const Working& working, std::byte* sum, const std::byte* from, std::size_t units) noexcept {
  const Own& own = view<Own>(working);
  __m128i value = load(sum);
  for (; units >= kWide; units -= kWide, from += kWide * kUnit) value = absorb_wide(own, value, from);
  if (units > 0) value = x86::absorb_few(own, value, from, units);
  store(sum, value);
}

SIV_VAES void stream(const Working& working, std::byte* counter, const std::byte* from, std::byte* to,
                     std::size_t units) noexcept {
  const Own& own = view<Own>(working);
  __m256i next = begin(counter);
  for (; units >= kWide; units -= kWide, from += kWide * kUnit, to += kWide * kUnit)
    next = stream_wide(own, next, from, to);
  store(counter, x86::stream_few(own, _mm256_castsi256_si128(next), from, to, units));
}

SIV_VAES void stream_and_absorb(const Working& working, std::byte* counter, std::byte* sum, const std::byte* from,
                                std::byte* to, std::size_t units) noexcept {
  const Own& own = view<Own>(working);
  __m256i next = begin(counter);
  __m128i value = load(sum);
  for (; units >= kWide; units -= kWide, from += kWide * kUnit, to += kWide * kUnit) {
    next = stream_wide(own, next, from, to);
    value = absorb_wide(own, value, to);
  }
  __m128i left = _mm256_castsi256_si128(next);
  if (units > 0) {
    left = x86::stream_few(own, left, from, to, units);
    value = x86::absorb_few(own, value, to, units);
  }
  store(counter, left);
  store(sum, value);
}

constexpr Parts kParts = {
    "vaes", sizeof(x86::Keys), sizeof(Own), expand, derive, encrypt, absorb, stream, stream_and_absorb,
};

}  // namespace

const Parts* vaes() noexcept {
  __builtin_cpu_init();
  const bool able = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vaes") &&
                    __builtin_cpu_supports("vpclmulqdq");
  return able && aesni() != nullptr ? &kParts : nullptr;
}

}  // namespace siv

#else

const siv::Parts* siv::vaes() noexcept { return nullptr; }

#endif
