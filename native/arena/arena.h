#pragma once
#include <cstddef>
#include <cstdint>

// The one mapping that payload lives in. Owned here; JavaScript sees it as an external ArrayBuffer
// that is detached before the mapping goes away.
namespace arena {

class Arena {
 public:
  Arena() noexcept = default;
  ~Arena() noexcept { close(); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Maps `bytes` bytes: anonymous memory (memfd) when `path` is null, else the file, which is created
  // when missing and whose blocks are reserved, because a full tmpfs would otherwise kill us by SIGBUS.
  // Zero, or a negative errno.
  [[nodiscard]] int open(std::size_t bytes, const char* path) noexcept;
  void close() noexcept;

  [[nodiscard]] std::byte* base() const noexcept { return base_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] int fd() const noexcept { return fd_; }

  // The memory at [at, at + length), or null when that is not wholly inside. The numbers come from
  // JavaScript: they may be NaN, negative or fractional.
  [[nodiscard]] std::byte* range(double at, double length) const noexcept {
    if (!(at >= 0) || !(length >= 0)) return nullptr;
    const double size = static_cast<double>(size_);
    if (!(at <= size) || !(length <= size - at)) return nullptr;
    return base_ + static_cast<std::size_t>(at);
  }

 private:
  std::byte* base_ = nullptr;
  std::size_t size_ = 0;
  int fd_ = -1;
};

}  // namespace arena
