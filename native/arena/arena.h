#pragma once
#include <cstddef>
#include <cstdint>

// The one mapping that payload lives in. Owned here; JavaScript sees it as an external ArrayBuffer
// that is detached before the mapping goes away.
namespace arena {

// A file (on tmpfs) that the first part of the mapping lies in, and that outlives the process. Its own order is head, then
// body; in the mapping the body comes first, so that addresses of payload begin at zero. Whole pages, both.
struct Backing {
  int fd;  // stays the caller's, who also locks it
  std::size_t head;
  std::size_t body;
};

// The memory at [at, at + length) of `bytes` bytes at `base`, or null when that is not wholly inside. The numbers come from
// JavaScript: they may be NaN, negative or fractional.
[[nodiscard]] inline std::byte* within(std::byte* base, std::size_t bytes, double at, double length) noexcept {
  if (!(at >= 0) || !(length >= 0)) return nullptr;
  const double size = static_cast<double>(bytes);
  if (!(at <= size) || !(length <= size - at)) return nullptr;
  return base + static_cast<std::size_t>(at);
}

class Arena {
 public:
  Arena() noexcept = default;
  ~Arena() noexcept { close(); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Maps `bytes` bytes of anonymous memory (memfd). With a backing its body and head come first and count among them; the
  // file is made that large, and its blocks are reserved, because a full tmpfs would otherwise kill us by SIGBUS.
  // Zero, or a negative errno.
  [[nodiscard]] int open(std::size_t bytes, const Backing* backing = nullptr) noexcept;
  void close() noexcept;

  [[nodiscard]] std::byte* base() const noexcept { return base_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  [[nodiscard]] std::byte* range(double at, double length) const noexcept {
    return within(base_, size_, at, length);
  }

 private:
  std::byte* base_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace arena
