#pragma once
#include <string_view>

#include "siv/parts.h"
#include "siv/secret.h"

namespace siv {

// "auto": the fastest that this processor has; or one of them by its name. Null: it is unknown, or not to be had here.
[[nodiscard]] const Parts* choose(std::string_view name) noexcept;

// An expanded key and the implementation that it was expanded for. Many threads may use it at a time.
class Key {
 public:
  // Zero, or a negative errno: −EIO when the implementation fails at a value of RFC 8452. Neither it nor anything
  // else keeps `bytes` (kKeyBytes of them), which stay the caller's to wipe.
  [[nodiscard]] int open(const std::byte* bytes, const Parts& parts) noexcept;

  [[nodiscard]] const Parts& parts() const noexcept { return *parts_; }
  [[nodiscard]] const Schedule& schedule() const noexcept { return *static_cast<const Schedule*>(memory_.at()); }

 private:
  Secret memory_;
  const Parts* parts_ = nullptr;
};

}  // namespace siv
