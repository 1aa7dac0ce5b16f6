#pragma once
#include <cstddef>

namespace siv {

// Memory for a key: it is in no core dump, in no child and, where we may lock it, never on a swap device; wiped when it goes.
class Secret {
 public:
  Secret() noexcept = default;
  ~Secret() { close(); }
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  // Zero, or a negative errno.
  [[nodiscard]] int open(std::size_t bytes) noexcept;
  void close() noexcept;

  [[nodiscard]] void* at() const noexcept { return at_; }

 private:
  void* at_ = nullptr;
  std::size_t bytes_ = 0;
};

// Wipes what functions that have returned left: the stack below the caller, and registers, which the next one may well save there.
void sweep_stack() noexcept;

}  // namespace siv
