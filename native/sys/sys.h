#pragma once
#include <cstddef>
#include <string_view>

// Small services of the system that Node does not offer.
namespace sys {

// Sends `text` as one datagram to a service manager's socket; a leading '@' of `path` names the
// abstract namespace. Zero, or a negative errno.
[[nodiscard]] int notify(std::string_view path, std::string_view text) noexcept;

// Exclusive advisory lock of an open file, without waiting: zero, −EWOULDBLOCK when another holds it,
// or another negative errno. Released when the descriptor is closed, also by the death of the process.
[[nodiscard]] int lock(int fd) noexcept;

// Puts another program in the place of this one, with this environment; `words` begins with its name and ends with a null
// pointer. Comes back only with a negative errno. Standard input, output and error pass on, and what is not close-on-exec.
[[nodiscard]] int execute(const char* path, char* const* words) noexcept;

}  // namespace sys
