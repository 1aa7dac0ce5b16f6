#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include "siv/mode.h"
#include "test/check.h"
#include "test/siv_kit.h"

namespace {

Bytes from_hex(const std::string& text) {
  if (text == "-") return {};
  Bytes all;
  for (std::size_t i = 0; i < text.size(); i += 2)
    all.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return all;
}

struct Sealed {
  Bytes data;
  Bytes tag = Bytes(siv::kTagBytes);
  bool operator==(const Sealed&) const = default;
};

// `shift`: how far from a round address the memory begins.
Sealed seal(const siv::Parts& parts, const siv::Schedule& key, const Bytes& nonce, const Bytes& extra,
            const Bytes& plain, std::size_t shift, bool in_place) {
  Bytes from(plain.size() + shift + 16);
  Bytes to(plain.size() + shift + 16, std::byte{0x5a});
  std::copy(plain.begin(), plain.end(), from.begin() + static_cast<std::ptrdiff_t>(shift));
  Bytes& out = in_place ? from : to;
  Sealed made;
  siv::seal(parts, key, {nonce.data(), from.data() + shift, out.data() + shift, plain.size(), extra.data(), extra.size()},
            made.tag.data());
  const auto begin = out.begin() + static_cast<std::ptrdiff_t>(shift);
  made.data.assign(begin, begin + static_cast<std::ptrdiff_t>(plain.size()));
  // Nothing before or behind is touched.
  const std::byte around = in_place ? std::byte{0} : std::byte{0x5a};
  for (std::size_t i = 0; i < shift; i++) CHECK(out[i] == around);
  for (std::size_t i = 0; i < 16; i++) CHECK(out[shift + plain.size() + i] == around);
  return made;
}

// What `open` leaves at `to`, or at `from` when that is the same.
bool open(const siv::Parts& parts, const siv::Schedule& key, const Bytes& nonce, const Bytes& extra, Sealed& sealed,
          Bytes* apart) {
  std::byte* to = apart == nullptr ? sealed.data.data() : apart->data();
  return siv::open(parts, key, {nonce.data(), sealed.data.data(), to, sealed.data.size(), extra.data(), extra.size()},
                   sealed.tag.data());
}

void try_vectors(const siv::Parts& parts) {
  std::ifstream file(GOLDEN "/siv/rfc8452.txt");
  std::string line;
  int count = 0;
  while (std::getline(file, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string key, nonce, extra, plain, result;
    words >> key >> nonce >> extra >> plain >> result;
    siv::Schedule schedule;
    parts.expand(from_hex(key).data(), schedule);
    Sealed made = seal(parts, schedule, from_hex(nonce), from_hex(extra), from_hex(plain), 0, true);
    const Bytes sealed = made.data;
    made.data.insert(made.data.end(), made.tag.begin(), made.tag.end());
    CHECK(made.data == from_hex(result));
    made.data = sealed;
    CHECK(open(parts, schedule, from_hex(nonce), from_hex(extra), made, nullptr));
    CHECK(made.data == from_hex(plain));
    count += 1;
  }
  CHECK(count == 26);
}

// Against the portable one, which has nothing in common with the others but the mode.
void compare(const siv::Parts& parts) {
  Chance chance(8452);
  const auto once = [&](std::size_t length) {
    const Bytes key = chance.bytes(siv::kKeyBytes);
    const Bytes nonce = chance.bytes(siv::kNonceBytes);
    const Bytes extra = chance.bytes(chance.below(40));
    const Bytes plain = chance.bytes(length);
    siv::Schedule ours;
    siv::Schedule others;
    parts.expand(key.data(), ours);
    siv::portable().expand(key.data(), others);
    Sealed made = seal(parts, ours, nonce, extra, plain, chance.below(16), chance.below(2) == 0);
    CHECK(made == seal(siv::portable(), others, nonce, extra, plain, 0, true));
    CHECK(open(parts, ours, nonce, extra, made, nullptr));
    CHECK(made.data == plain);
  };
  for (std::size_t length = 0; length <= 300; length++) once(length);
  for (int i = 0; i < 100; i++) once(chance.below(1100));
  for (int i = 0; i < 60; i++) once(chance.below(33'001));
}

// The counter's 32 bits go around at any place of a wide step, which no given message shows: the parts themselves are asked.
void try_counters(const siv::Parts& parts) {
  Chance chance(32);
  const Bytes key = chance.bytes(siv::kKeyBytes);
  const Bytes nonce = chance.bytes(siv::kNonceBytes);
  const Bytes plain = chance.bytes(50 * siv::kUnit);
  for (std::uint32_t before = 0; before < 50; before++) {
    Bytes streams[2];
    Bytes counters[2];
    const siv::Parts* both[] = {&parts, &siv::portable()};
    for (int i = 0; i < 2; i++) {
      siv::Schedule schedule;
      siv::Working working;
      both[i]->expand(key.data(), schedule);
      both[i]->derive(schedule, nonce.data(), working);
      counters[i] = Bytes(siv::kUnit, std::byte{0xff});
      siv::add_to_counter(counters[i].data(), 0U - before);
      streams[i] = plain;
      both[i]->stream(working, counters[i].data(), streams[i].data(), streams[i].data(), 50);
    }
    CHECK(streams[0] == streams[1]);
    CHECK(counters[0] == counters[1]);
  }
}

// Any changed bit is noticed, and then nothing of the message is left behind.
void tamper(const siv::Parts& parts) {
  Chance chance(1);
  const Bytes key = chance.bytes(siv::kKeyBytes);
  siv::Schedule schedule;
  parts.expand(key.data(), schedule);
  for (const std::size_t length : {0UL, 1UL, 16UL, 100UL, 512UL, 4096UL}) {
    const Bytes nonce = chance.bytes(siv::kNonceBytes);
    const Bytes extra = chance.bytes(5);
    const Bytes plain = chance.bytes(length);
    const Sealed made = seal(parts, schedule, nonce, extra, plain, 0, true);
    const auto refused = [&](const Bytes& with_nonce, const Bytes& with_extra, const Sealed& sealed) {
      Sealed copy = sealed;
      CHECK(!open(parts, schedule, with_nonce, with_extra, copy, nullptr));
      CHECK(copy == sealed);
      Bytes apart(sealed.data.size(), std::byte{0x77});
      CHECK(!open(parts, schedule, with_nonce, with_extra, copy, &apart));
      CHECK(copy == sealed);
      CHECK(apart == Bytes(sealed.data.size()));
    };
    const auto flip = [&](Bytes& bytes, std::size_t bit) { bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8)); };
    for (std::size_t bit = 0; bit < 8 * siv::kTagBytes; bit++) {
      Sealed wrong = made;
      flip(wrong.tag, bit);
      refused(nonce, extra, wrong);
    }
    for (std::size_t bit = 0; bit < 8 * siv::kNonceBytes; bit += 7) {
      Bytes wrong = nonce;
      flip(wrong, bit);
      refused(wrong, extra, made);
    }
    for (std::size_t i = 0; i < 20 && length > 0; i++) {
      Sealed wrong = made;
      flip(wrong.data, i == 0 ? 8 * length - 1 : chance.below(8 * length));
      refused(nonce, extra, wrong);
    }
    Bytes longer = extra;
    longer.push_back(std::byte{0});
    refused(nonce, longer, made);
    if (length > 0) {
      Sealed cut = made;
      cut.data.pop_back();
      refused(nonce, extra, cut);
    }
  }
}

}  // namespace

int main() {
  for (const siv::Parts* parts : implementations()) {
    try_vectors(*parts);
    compare(*parts);
    try_counters(*parts);
    tamper(*parts);
  }
  return 0;
}
