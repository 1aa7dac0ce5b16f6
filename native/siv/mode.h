#pragma once
#include "siv/parts.h"

// AES-256-GCM-SIV of one message (RFC 8452, sections 4 and 5): the only place that knows how its parts go together.
namespace siv {

struct Message {
  const std::byte* nonce;
  const std::byte* from;
  std::byte* to;  // the same as `from`, or apart from it
  std::size_t bytes;
  const std::byte* extra = nullptr;  // authenticated, not encrypted
  std::size_t extra_bytes = 0;
};

void seal(const Parts& parts, const Schedule& key, const Message& message, std::byte* tag) noexcept;

// False: the tag is not that of this message. Then what lies at `from` is as it was, and `to`, when it is another place, is zero.
[[nodiscard]] bool open(const Parts& parts, const Schedule& key, const Message& message, const std::byte* tag) noexcept;

// Takes back what `open` did in place.
void unopen(const Parts& parts, const Schedule& key, const Message& message, const std::byte* tag) noexcept;

}  // namespace siv
