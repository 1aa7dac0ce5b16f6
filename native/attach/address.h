#pragma once
#include <sys/socket.h>

#include <string_view>

namespace attach {

// Where a server is: "127.0.0.1:10809", "[::1]:10809" or "unix:/run/x.sock". No host names: looking one up takes
// memory and files, which may both be out of reach while the device waits.
struct Address {
  sockaddr_storage name{};
  socklen_t length = 0;
  // As it was given, for messages.
  char text[160] = {};
};

[[nodiscard]] bool parse_address(std::string_view text, Address& out) noexcept;

}  // namespace attach
