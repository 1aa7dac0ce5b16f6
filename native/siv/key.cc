#include "siv/key.h"

#include <cerrno>
#include <new>

#include "siv/mode.h"

namespace siv {

namespace {

// The first value of RFC 8452, appendix C.3, whose counter goes around: a processor, an emulator or a compiler that gets it wrong would
// make data that nobody else can read.
bool works(const Parts& parts) noexcept {
  constexpr unsigned char kPlain[2 * kUnit] = {0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
                                               0,    0,    0,    0,    0,    0x4d, 0xb9, 0x23, 0xdc, 0x79, 0x3e,
                                               0xe6, 0x49, 0x7c, 0x76, 0xdc, 0xc0, 0x3a, 0x98, 0xe1, 0x08};
  constexpr unsigned char kSealed[2 * kUnit + kTagBytes] = {
      0xf3, 0xf8, 0x0f, 0x2c, 0xf0, 0xcb, 0x2d, 0xd9, 0xc5, 0x98, 0x4f, 0xcd, 0xa9, 0x08, 0x45, 0x6c,
      0xc5, 0x37, 0x70, 0x3b, 0x5b, 0xa7, 0x03, 0x24, 0xa6, 0x79, 0x3a, 0x7b, 0xf2, 0x18, 0xd3, 0xea,
      0xff, 0xff, 0xff, 0xff, 0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0};
  const std::byte zeros[kKeyBytes] = {};
  Schedule schedule;
  parts.expand(zeros, schedule);
  std::byte made[2 * kUnit + kTagBytes];
  std::memcpy(made, kPlain, sizeof kPlain);
  seal(parts, schedule, {zeros, made, made, sizeof kPlain}, made + sizeof kPlain);
  return std::memcmp(made, kSealed, sizeof made) == 0;
}

}  // namespace

const Parts* choose(std::string_view name) noexcept {
  if (name == "vaes") return vaes();
  if (name == "aesni") return aesni();
  if (name == "portable") return &portable();
  if (name != "auto") return nullptr;
  if (const Parts* best = vaes(); best != nullptr) return best;
  if (const Parts* good = aesni(); good != nullptr) return good;
  return &portable();
}

int Key::open(const std::byte* bytes, const Parts& parts) noexcept {
  if (parts_ != nullptr) return -EBUSY;
  if (!works(parts)) return -EIO;
  if (const int error = memory_.open(sizeof(Schedule)); error < 0) return error;
  parts.expand(bytes, *::new (memory_.at()) Schedule);
  sweep_stack();
  parts_ = &parts;
  return 0;
}

}  // namespace siv
