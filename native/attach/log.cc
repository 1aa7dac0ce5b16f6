#include "attach/log.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace attach {

void Log::line(Level level, const char* format, ...) noexcept {
  char text[512];
  int at = 0;
  const auto room = [&] { return sizeof text - static_cast<std::size_t>(at); };
  const auto advance = [&](int written) { at = std::min(at + std::max(written, 0), static_cast<int>(sizeof text) - 2); };
  if (is_kernel_) advance(std::snprintf(text, room(), "<%d>", static_cast<int>(level)));
  advance(std::snprintf(text + at, room(), "trivet-attach: "));
  if (subject_ != nullptr) advance(std::snprintf(text + at, room(), "%s: ", subject_));
  std::va_list arguments;
  va_start(arguments, format);
  advance(std::vsnprintf(text + at, room(), format, arguments));
  va_end(arguments);
  text[at++] = '\n';
  const auto length = static_cast<std::size_t>(at);
  // The kernel's log takes it at once, and knows no poll for it.
  if (is_kernel_) {
    if (::write(fd_, text, length) < 0) return;
    return;
  }
  // A socket, as services have, takes it or not; for a pipe or a terminal we ask first. What cannot be said now is
  // dropped.
  if (::send(fd_, text, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != ENOTSOCK) return;
  pollfd ready{fd_, POLLOUT, 0};
  if (::poll(&ready, 1, 0) <= 0 || (ready.revents & POLLOUT) == 0) return;
  if (::write(fd_, text, length) < 0) return;
}

}  // namespace attach
