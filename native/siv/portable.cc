// The parts for any processor: bitsliced AES and POLYVAL by ordinary multiplication.
#include <new>

#include "siv/bitslice.h"
#include "siv/carryless.h"
#include "siv/parts.h"

namespace siv {

namespace {

constexpr std::size_t kUnits = 4;  // what AES takes at a time

struct Own {
  bitslice::Keys encryption;
  carryless::Element authentication;
};
static_assert(sizeof(bitslice::Keys) <= sizeof(Schedule) && sizeof(Own) <= sizeof(Working));

template <typename As, typename Of>
const As& view(const Of& of) noexcept {
  return *std::launder(reinterpret_cast<const As*>(of.room));
}

carryless::Element load(const std::byte* at) noexcept {
  carryless::Element e{};
  for (std::size_t i = 8; i-- > 0;) {
    e.low = (e.low << 8) | static_cast<std::uint64_t>(at[i]);
    e.high = (e.high << 8) | static_cast<std::uint64_t>(at[8 + i]);
  }
  return e;
}

void store(std::byte* at, carryless::Element e) noexcept {
  for (std::size_t i = 0; i < 8; i++) {
    at[i] = static_cast<std::byte>(e.low >> (8 * i));
    at[8 + i] = static_cast<std::byte>(e.high >> (8 * i));
  }
}

void expand(const std::byte* key, Schedule& schedule) noexcept {
  bitslice::expand(key, *::new (schedule.room) bitslice::Keys);
}

void derive(const Schedule& key, const std::byte* nonce, Working& working) noexcept {
  constexpr std::size_t kHalves = 6;  // each unit gives eight bytes of the two keys
  std::byte units[2 * kUnits * kUnit] = {};
  for (std::size_t i = 0; i < kHalves; i++) {
    units[i * kUnit] = static_cast<std::byte>(i);
    std::memcpy(units + i * kUnit + 4, nonce, kNonceBytes);
  }
  const auto& keys = view<bitslice::Keys>(key);
  bitslice::encrypt(keys, units, units);
  bitslice::encrypt(keys, units + kUnits * kUnit, units + kUnits * kUnit);
  std::byte both[kHalves * 8];
  for (std::size_t i = 0; i < kHalves; i++) std::memcpy(both + 8 * i, units + i * kUnit, 8);
  Own& own = *::new (working.room) Own;
  own.authentication = load(both);
  bitslice::expand(both + kUnit, own.encryption);
  wipe(units, sizeof units);
  wipe(both, sizeof both);
}

void encrypt(const Working& working, const std::byte* from, std::byte* to) noexcept {
  std::byte units[kUnits * kUnit] = {};
  std::memcpy(units, from, kUnit);
  bitslice::encrypt(view<Own>(working).encryption, units, units);
  std::memcpy(to, units, kUnit);
  wipe(units, sizeof units);
}

void absorb(const Working& working, std::byte* sum, const std::byte* from, std::size_t units) noexcept {
  const carryless::Element key = view<Own>(working).authentication;
  carryless::Element value = load(sum);
  for (std::size_t i = 0; i < units; i++) {
    const carryless::Element unit = load(from + i * kUnit);
    value = carryless::dot({value.low ^ unit.low, value.high ^ unit.high}, key);
  }
  store(sum, value);
}

void stream(const Working& working, std::byte* counter, const std::byte* from, std::byte* to,
            std::size_t units) noexcept {
  const bitslice::Keys& keys = view<Own>(working).encryption;
  std::byte pad[kUnits * kUnit] = {};
  for (std::size_t done = 0; done < units; done += kUnits) {
    const std::size_t count = units - done < kUnits ? units - done : kUnits;
    for (std::size_t k = 0; k < count; k++) {
      std::memcpy(pad + k * kUnit, counter, kUnit);
      add_to_counter(counter, 1);
    }
    bitslice::encrypt(keys, pad, pad);
    for (std::size_t i = 0; i < count * kUnit; i++) to[done * kUnit + i] = from[done * kUnit + i] ^ pad[i];
  }
  wipe(pad, sizeof pad);
}

void stream_and_absorb(const Working& working, std::byte* counter, std::byte* sum, const std::byte* from,
                       std::byte* to, std::size_t units) noexcept {
  stream(working, counter, from, to, units);
  absorb(working, sum, to, units);
}

constexpr Parts kParts = {
    "portable", sizeof(bitslice::Keys), sizeof(Own), expand, derive, encrypt, absorb, stream, stream_and_absorb,
};

}  // namespace

const Parts& portable() noexcept { return kParts; }

}  // namespace siv
