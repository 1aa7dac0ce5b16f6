// The parts by AES-NI and PCLMULQDQ: eight units at a time, so that none waits for its last round.
#include "siv/parts.h"

#if defined(__x86_64__)

#include "siv/x86.h"

namespace siv {

namespace {

using x86::load;
using x86::Own;
using x86::store;
using x86::view;

constexpr std::size_t kWide = 8;

SIV_X86 void expand(const std::byte* key, Schedule& schedule) noexcept { x86::expand_key(key, schedule); }

SIV_X86 void derive(const Schedule& key, const std::byte* nonce, Working& working) noexcept {
  x86::derive<kWide>(key, nonce, working);
}

SIV_X86 void encrypt(const Working& working, const std::byte* from, std::byte* to) noexcept {
  x86::encrypt_one(working, from, to);
}

SIV_X86_INLINE __m128i absorb_wide(const Own& own, __m128i sum, const std::byte* from) noexcept {
  x86::Product total = x86::multiply(load(from + kUnit), x86::power(own, kWide - 1), x86::power_halves(own, kWide - 1));
#pragma GCC unroll 8
  for (std::size_t i = 2; i < kWide; i++)
    add(total, x86::multiply(load(from + i * kUnit), x86::power(own, kWide - i), x86::power_halves(own, kWide - i)));
  // Last, as it waits for what was before.
  add(total, x86::multiply(_mm_xor_si128(sum, load(from)), x86::power(own, kWide), x86::power_halves(own, kWide)));
  return x86::reduce(total);
}

SIV_X86_INLINE __m128i stream_wide(const Own& own, __m128i counter, const std::byte* from, std::byte* to) noexcept {
  __m128i unit[kWide];
#pragma GCC unroll 8
  for (int i = 0; i < static_cast<int>(kWide); i++) unit[i] = _mm_add_epi32(counter, _mm_cvtsi32_si128(i));
  x86::encrypt(own.encryption, unit);
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kWide; i++)
    store(to + i * kUnit, _mm_xor_si128(load(from + i * kUnit), unit[i]));
  return _mm_add_epi32(counter, _mm_cvtsi32_si128(static_cast<int>(kWide)));
}

SIV_X86 void absorb(const Working& working, std::byte* sum, const std::byte* from, std::size_t units) noexcept {
  const Own& own = view<Own>(working);
  __m128i value = load(sum);
  for (; units >= kWide; units -= kWide, from += kWide * kUnit) value = absorb_wide(own, value, from);
  if (units > 0) value = x86::absorb_few(own, value, from, units);
  store(sum, value);
}

SIV_X86 void stream(const Working& working, std::byte* counter, const std::byte* from, std::byte* to,
                    std::size_t units) noexcept {
  const Own& own = view<Own>(working);
  __m128i next = load(counter);
  for (; units >= kWide; units -= kWide, from += kWide * kUnit, to += kWide * kUnit)
    next = stream_wide(own, next, from, to);
  store(counter, x86::stream_few(own, next, from, to, units));
}

SIV_X86 void stream_and_absorb(const Working& working, std::byte* counter, std::byte* sum, const std::byte* from,
                               std::byte* to, std::size_t units) noexcept {
  const Own& own = view<Own>(working);
  __m128i next = load(counter);
  __m128i value = load(sum);
  for (; units >= kWide; units -= kWide, from += kWide * kUnit, to += kWide * kUnit) {
    next = stream_wide(own, next, from, to);
    value = absorb_wide(own, value, to);
  }
  if (units > 0) {
    next = x86::stream_few(own, next, from, to, units);
    value = x86::absorb_few(own, value, to, units);
  }
  store(counter, next);
  store(sum, value);
}

constexpr Parts kParts = {
    "aesni", sizeof(x86::Keys), sizeof(Own), expand, derive, encrypt, absorb, stream, stream_and_absorb,
};

}  // namespace

const Parts* aesni() noexcept {
  __builtin_cpu_init();
  const bool able = __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") &&
                    __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3");
  return able ? &kParts : nullptr;
}

}  // namespace siv

#else

const siv::Parts* siv::aesni() noexcept { return nullptr; }

#endif
