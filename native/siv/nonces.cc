#include "siv/nonces.h"

#include <sys/random.h>

#include <cerrno>
#include <cstdlib>

namespace siv {

int Nonces::open() noexcept {
  for (std::size_t got = 0; got < sizeof bytes_;) {
    const ssize_t count = ::getrandom(bytes_ + got, sizeof bytes_ - got, 0);
    if (count < 0 && errno != EINTR) return -errno;
    if (count > 0) got += static_cast<std::size_t>(count);
  }
  left_ = kCount;
  return 0;
}

void Nonces::take(std::byte* to) noexcept {
  // Data must never be sealed under a nonce that is not random, and there is no other source.
  if (left_ == 0 && open() < 0) std::abort();
  left_ -= 1;
  std::memcpy(to, bytes_ + left_ * kNonceBytes, kNonceBytes);
}

}  // namespace siv
