#include "sys/sys.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace sys {

int notify(std::string_view path, std::string_view text) noexcept {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (path.empty() || (path.front() != '/' && path.front() != '@')) return -EINVAL;
  if (path.size() >= sizeof to.sun_path) return -ENAMETOOLONG;
  std::memcpy(to.sun_path, path.data(), path.size());
  if (path.front() == '@') to.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int error = 0;
  // Not waiting: a service manager that does not read must not stop the data path.
  if (::sendto(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&to),
               length) < 0)
    error = -errno;
  ::close(fd);
  return error;
}

int lock(int fd) noexcept {
  for (;;) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno != EINTR) return -errno;
  }
}

int execute(const char* path, char* const* words) noexcept {
  // Node marks these, too.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags >= 0) (void)::fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
  }
  ::execv(path, words);
  return -errno;
}

}  // namespace sys
