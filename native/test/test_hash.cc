#include <array>
#include <cstring>
#include <vector>

#include "hash/hash.h"
#include "test/check.h"

namespace {

std::uint64_t load(const std::byte* at) {
  std::uint64_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

// Published values of XXH64, seed 0, and the functions built upon it.
int main() {
  std::array<std::byte, 8> out{};
  hash::blocks({nullptr, 0, 1}, out.data(), 8);
  CHECK(load(out.data()) == 0xef46db3751d8e999ULL);  // of nothing
  const auto* abc = reinterpret_cast<const std::byte*>("abc");
  hash::blocks({abc, 3, 1}, out.data(), 8);
  CHECK(load(out.data()) == 0x44bc2cf5ad770999ULL);

  constexpr std::size_t block = 512;
  std::vector<std::byte> data(block * 7);
  for (std::size_t i = 0; i < data.size(); i++) data[i] = static_cast<std::byte>(i * 31 >> 3);
  std::vector<std::byte> hashes(7 * 12);
  hash::blocks({data.data(), block, 7}, hashes.data(), 12);
  CHECK(hash::verify({data.data(), block, 7}, hashes.data(), 12) == -1);
  data[block * 4 + 511] ^= std::byte{1};
  CHECK(hash::verify({data.data(), block, 7}, hashes.data(), 12) == 4);

  // A prefix and a block hashed apart give what both give in one piece.
  std::vector<std::byte> joined(28 + block);
  for (std::size_t i = 0; i < 28; i++) joined[i] = static_cast<std::byte>(200 - i);
  std::memcpy(joined.data() + 28, data.data(), block);
  hash::blocks({joined.data(), joined.size(), 1}, out.data(), 8);
  CHECK(hash::verify_prefixed({data.data(), block, 1}, out.data(), 8, {joined.data(), 28, 28}) == -1);
  joined[27] ^= std::byte{1};
  CHECK(hash::verify_prefixed({data.data(), block, 1}, out.data(), 8, {joined.data(), 28, 28}) == 0);

  std::vector<std::byte> zeros(5000);
  for (const std::size_t length : {0UL, 1UL, 15UL, 16UL, 17UL, 33UL, 4096UL, 5000UL}) {
    CHECK(hash::is_zero(zeros.data(), length));
    for (std::size_t i = 0; i < length; i++) {
      zeros[i] = std::byte{0x80};
      CHECK(!hash::is_zero(zeros.data(), length));
      CHECK(hash::is_zero(zeros.data(), i));
      zeros[i] = std::byte{0};
    }
  }
  return 0;
}
