#pragma once
#include "siv/parts.h"

namespace siv {

// Random nonces from the kernel, many with one call. For one thread.
class Nonces {
 public:
  // Zero, or a negative errno. After it succeeded once the kernel always has more.
  [[nodiscard]] int open() noexcept;
  void take(std::byte* to) noexcept;

 private:
  static constexpr std::size_t kCount = 256;

  std::byte bytes_[kCount * kNonceBytes];
  std::size_t left_ = 0;
};

}  // namespace siv
