#include "attach/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <charconv>
#include <cstddef>
#include <cstring>

namespace attach {

namespace {

bool parse_port(std::string_view text, std::uint16_t& out) noexcept {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > 65535) return false;
  out = static_cast<std::uint16_t>(value);
  return true;
}

}  // namespace

bool parse_address(std::string_view text, Address& out) noexcept {
  if (text.size() >= sizeof out.text) return false;
  out = {};
  std::memcpy(out.text, text.data(), text.size());
  if (text.starts_with("unix:")) {
    const std::string_view path = text.substr(5);
    sockaddr_un unix_name{};
    if (path.empty() || path.size() >= sizeof unix_name.sun_path) return false;
    unix_name.sun_family = AF_UNIX;
    std::memcpy(unix_name.sun_path, path.data(), path.size());
    out.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
    std::memcpy(&out.name, &unix_name, sizeof unix_name);
    return true;
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  std::uint16_t port = 0;
  if (!parse_port(text.substr(colon + 1), port)) return false;
  std::string_view host = text.substr(0, colon);
  const bool is_v6 = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (is_v6) host = host.substr(1, host.size() - 2);
  char copy[64] = {};
  if (host.empty() || host.size() >= sizeof copy) return false;
  std::memcpy(copy, host.data(), host.size());
  if (is_v6) {
    sockaddr_in6 name{};
    name.sin6_family = AF_INET6;
    name.sin6_port = htons(port);
    if (::inet_pton(AF_INET6, copy, &name.sin6_addr) != 1) return false;
    std::memcpy(&out.name, &name, sizeof name);
    out.length = sizeof name;
  } else {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    if (::inet_pton(AF_INET, copy, &name.sin_addr) != 1) return false;
    std::memcpy(&out.name, &name, sizeof name);
    out.length = sizeof name;
  }
  return true;
}

}  // namespace attach
