#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <set>
#include <string>

#include "hash/hash.h"
#include "siv/blocks.h"
#include "siv/mode.h"
#include "test/check.h"
#include "test/siv_kit.h"

namespace {

constexpr std::size_t kCount = 9;
// As in a Write of the protocol: hash, a byte, nonce, tag.
constexpr std::size_t kStride = 37;
constexpr std::size_t kRowAt = 9;

// Where a mapping is, and what the kernel was told about it.
std::string flags_of(const void* at) {
  std::ifstream maps("/proc/self/smaps");
  char begin[40];
  std::snprintf(begin, sizeof begin, "%lx-", reinterpret_cast<unsigned long>(at));
  std::string line;
  bool here = false;
  while (std::getline(maps, line)) {
    if (line.rfind(begin, 0) == 0) here = true;
    if (here && line.rfind("VmFlags:", 0) == 0) return line;
  }
  return "";
}

void try_secret() {
  siv::Secret secret;
  CHECK(secret.open(100) == 0);
  CHECK(secret.open(100) == -EBUSY);
  const std::string flags = flags_of(secret.at());
  CHECK(flags.find(" dd") != std::string::npos);  // left out of core dumps
  CHECK(flags.find(" dc") != std::string::npos);  // and of children
  secret.close();
  CHECK(secret.at() == nullptr);
}

void try_nonces() {
  siv::Nonces nonces;
  CHECK(nonces.open() == 0);
  std::set<Bytes> seen;
  for (int i = 0; i < 1000; i++) {
    Bytes one(siv::kNonceBytes);
    nonces.take(one.data());
    seen.insert(one);
  }
  CHECK(seen.size() == 1000);
}

void try_blocks(const siv::Parts& parts, std::size_t block) {
  Chance chance(block);
  const Bytes bytes = chance.bytes(siv::kKeyBytes);
  siv::Key key;
  CHECK(key.open(bytes.data(), parts) == 0);
  CHECK(key.open(bytes.data(), parts) == -EBUSY);
  siv::Nonces nonces;
  const Bytes plain = chance.bytes(kCount * block);
  Bytes data = plain;
  Bytes contexts(kCount * kStride);
  const siv::Rows rows{contexts.data() + kRowAt, kStride};
  siv::seal_blocks(key, &nonces, {data.data(), data.data(), block, kCount}, rows, contexts.data());
  const Bytes sealed = data;

  std::set<Bytes> seen;
  for (std::size_t i = 0; i < kCount; i++) {
    const std::byte* row = rows.at + i * kStride;
    seen.insert(Bytes(row, row + siv::kNonceBytes));
    CHECK(contexts[i * kStride + 8] == std::byte{0});  // what stands between is not ours
  }
  CHECK(seen.size() == kCount);
  CHECK(hash::verify_prefixed({data.data(), block, kCount}, contexts.data(), kStride, {rows.at, kStride, siv::kRowBytes}) ==
        -1);

  // Under the nonces that stand there: the same again, elsewhere, and no hashes.
  Bytes again = contexts;
  Bytes elsewhere(plain.size());
  for (std::size_t i = 0; i < kCount; i++) std::fill_n(again.begin() + static_cast<std::ptrdiff_t>(i * kStride), 8, std::byte{3});
  siv::seal_blocks(key, nullptr, {plain.data(), elsewhere.data(), block, kCount}, {again.data() + kRowAt, kStride}, nullptr);
  CHECK(elsewhere == sealed);
  for (std::size_t i = 0; i < kCount; i++) {
    const auto from = static_cast<std::ptrdiff_t>(i * kStride);
    CHECK(again[i * kStride] == std::byte{3});
    CHECK(std::equal(again.begin() + from + 9, again.begin() + from + 37, contexts.begin() + from + 9));
  }

  CHECK(siv::open_blocks(key, {data.data(), data.data(), block, kCount}, rows) == -1);
  CHECK(data == plain);

  // All or none, wherever the bad one is.
  for (const std::size_t bad : {std::size_t{0}, std::size_t{4}, kCount - 1}) {
    Bytes wrong = sealed;
    wrong[bad * block + block / 2] ^= std::byte{4};
    data = wrong;
    CHECK(siv::open_blocks(key, {data.data(), data.data(), block, kCount}, rows) == static_cast<std::ptrdiff_t>(bad));
    CHECK(data == wrong);
    Bytes out(plain.size(), std::byte{1});
    CHECK(siv::open_blocks(key, {wrong.data(), out.data(), block, kCount}, rows) == static_cast<std::ptrdiff_t>(bad));
    CHECK(out == Bytes(plain.size()));
  }
}

// An implementation that computes wrong is refused.
void try_broken() {
  siv::Parts broken = siv::portable();
  broken.encrypt = [](const siv::Working& working, const std::byte* from, std::byte* to) noexcept {
    siv::portable().encrypt(working, from, to);
    to[7] ^= std::byte{1};
  };
  siv::Key key;
  const Bytes bytes(siv::kKeyBytes);
  CHECK(key.open(bytes.data(), broken) == -EIO);
}

}  // namespace

int main() {
  try_secret();
  try_nonces();
  try_broken();
  for (const siv::Parts* parts : implementations())
    for (const std::size_t block : {512UL, 4096UL, 32768UL}) try_blocks(*parts, block);
  CHECK(siv::choose("auto") == implementations().back());
  CHECK(siv::choose("portable") == &siv::portable());
  CHECK(siv::choose("Portable") == nullptr);
  return 0;
}
