#pragma once
#include <cstddef>
#include <string>

// Making and naming sockets. Every descriptor made here is close-on-exec and non-blocking. All calls
// answer a descriptor or zero, or a negative errno.
namespace net {

inline constexpr int kBacklog = 1024;

// `host` is an IPv4 or IPv6 literal (−EINVAL otherwise); port 0 lets the kernel choose.
[[nodiscard]] int listen_tcp(const char* host, int port) noexcept;

// Removes what a dead process left at `path`, never a socket on which somebody answers (−EADDRINUSE)
// and never anything that is no socket (−EEXIST). `mode`: permission bits of the new socket.
[[nodiscard]] int listen_unix(const char* path, unsigned mode) noexcept;

// Takes over a descriptor that the service manager passed: it must be a listening stream socket.
[[nodiscard]] int adopt_listener(int fd) noexcept;

// Takes over a connected stream socket that another process gave us.
[[nodiscard]] int adopt_stream(int fd) noexcept;

[[nodiscard]] int accept(int listener) noexcept;

// The connection is usually still under way when this returns; writability tells, then `connect_error`.
[[nodiscard]] int connect_tcp(const char* host, int port) noexcept;
[[nodiscard]] int connect_unix(const char* path) noexcept;
[[nodiscard]] int connect_error(int fd) noexcept;

// "127.0.0.1:3810", "[::1]:3810", "unix:/run/x", "unix:pid 812"; empty when there is none.
[[nodiscard]] std::string peer_name(int fd);
[[nodiscard]] std::string local_name(int fd);

}  // namespace net
