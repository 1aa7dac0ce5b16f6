#pragma once
#include <cstddef>
#include <span>

namespace loop {

struct Done {
  double tag;
  double result;
};

// Something beside sockets and files that answers later, whose answers leave with theirs.
class Source {
 public:
  Source() noexcept = default;
  virtual ~Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  // Takes answers, as many as fit; fewer than fit means that there are no more for now.
  [[nodiscard]] virtual std::size_t drain(std::span<Done> out) noexcept = 0;
  // Becomes readable, edge by edge, when there is an answer again after there was none.
  [[nodiscard]] virtual int watch_fd() const noexcept = 0;
};

}  // namespace loop
