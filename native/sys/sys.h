#pragma once
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

// Small services of the system that Node does not offer.
namespace sys {

// Most descriptors that one message carries (SCM_MAX_FD of Linux is 253).
inline constexpr std::size_t kDescriptors = 250;

// Sends `text` as one datagram to a service manager's socket, with descriptors that it then has, too; a leading '@' of
// `path` names the abstract namespace. Zero, or a negative errno.
[[nodiscard]] int notify(std::string_view path, std::string_view text, std::span<const int> descriptors = {}) noexcept;

// Waits until the service manager has taken everything that was sent to it before (sd_notify_barrier(3)), at most so
// long. Zero, −ETIMEDOUT, or another negative errno.
[[nodiscard]] int notify_barrier(std::string_view path, int timeout_ms) noexcept;

// Exclusive advisory lock of an open file, without waiting: zero, −EWOULDBLOCK when another holds it,
// or another negative errno. Released when the descriptor is closed, also by the death of the process.
[[nodiscard]] int lock(int fd) noexcept;

// Puts another program in the place of this one, with this environment; `words` begins with its name and ends with a null
// pointer. Comes back only with a negative errno. Standard input, output and error pass on, and what is not close-on-exec.
[[nodiscard]] int execute(const char* path, char* const* words) noexcept;
// Memory that is a file without a name: a descriptor, or a negative errno.
[[nodiscard]] int memory_file(const char* name) noexcept;

// Two connected unix sockets that keep the bounds of messages. Zero, or a negative errno.
[[nodiscard]] int pair(int (&ends)[2]) noexcept;

// One message of a byte with descriptors, of which the receiver gets its own; never waits. Zero, or a negative errno.
[[nodiscard]] int send_descriptors(int socket, std::span<const int> descriptors) noexcept;

// Waits for one such message, at most so long (−1: for ever), and appends what it carried, close-on-exec. Zero;
// −ECONNRESET when the other end is gone, −ETIMEDOUT, or another negative errno.
[[nodiscard]] int receive_descriptors(int socket, int timeout_ms, std::vector<int>& out);

}  // namespace sys
