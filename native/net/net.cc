#include "net/net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace net {

namespace {

// One of the three kinds of address, ready for a system call.
struct Name {
  sockaddr_storage storage{};
  socklen_t length = 0;
  [[nodiscard]] sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  [[nodiscard]] int family() const noexcept { return storage.ss_family; }
};

int parse_tcp(const char* host, int port, Name& out) noexcept {
  if (port < 0 || port > 65535) return -EINVAL;
  const auto number = htons(static_cast<std::uint16_t>(port));
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  if (::inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = number;
    out.length = sizeof(sockaddr_in);
    return 0;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (::inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = number;
    out.length = sizeof(sockaddr_in6);
    return 0;
  }
  return -EINVAL;
}

int parse_unix(const char* path, Name& out) noexcept {
  auto* name = reinterpret_cast<sockaddr_un*>(&out.storage);
  const std::size_t length = std::strlen(path);
  if (length == 0) return -EINVAL;
  if (length >= sizeof name->sun_path) return -ENAMETOOLONG;
  name->sun_family = AF_UNIX;
  std::memcpy(name->sun_path, path, length + 1);
  out.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length + 1);
  return 0;
}

int make(int family) noexcept {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  return fd < 0 ? -errno : fd;
}

int fail(int fd) noexcept {
  const int error = -errno;
  ::close(fd);
  return error;
}

void set(int fd, int level, int option, int value) noexcept {
  (void)::setsockopt(fd, level, option, &value, sizeof value);
}

// Requests and replies are whole messages: waiting for more to send only costs time. Keep-alive finds
// a peer whose machine has died while we had nothing to say.
void tune(int fd) noexcept {
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
}

std::string render(const Name& name) {
  char text[INET6_ADDRSTRLEN] = "";
  if (name.family() == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&name.storage);
    ::inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    std::string result(text);
    return result.append(":").append(std::to_string(ntohs(v4->sin_port)));
  }
  if (name.family() == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&name.storage);
    ::inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    std::string result("[");
    return result.append(text).append("]:").append(std::to_string(ntohs(v6->sin6_port)));
  }
  if (name.family() == AF_UNIX) {
    const auto* local = reinterpret_cast<const sockaddr_un*>(&name.storage);
    const std::size_t head = offsetof(sockaddr_un, sun_path);
    if (name.length <= head || local->sun_path[0] == '\0') return "";
    return "unix:" + std::string(local->sun_path, ::strnlen(local->sun_path, name.length - head));
  }
  return "";
}

// Is there a process behind the socket file? Only a refused connection proves that there is none.
bool answers(Name& name) noexcept {
  const int fd = make(AF_UNIX);
  if (fd < 0) return true;
  const bool refused = ::connect(fd, name.get(), name.length) < 0 && errno == ECONNREFUSED;
  ::close(fd);
  return !refused;
}

// A stream socket that somebody else made, `listening` or not, is given the flags of our own.
int adopt(int fd, bool listening) noexcept {
  int value = 0;
  socklen_t length = sizeof value;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length) < 0) return -errno;
  if (value != SOCK_STREAM) return -EINVAL;
  length = sizeof value;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) < 0) return -errno;
  if ((value != 0) != listening) return -EINVAL;
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return -errno;
  return 0;
}

}  // namespace

int listen_tcp(const char* host, int port) noexcept {
  Name name;
  if (const int error = parse_tcp(host, port, name); error < 0) return error;
  const int fd = make(name.family());
  if (fd < 0) return fd;
  set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  // [::] also serves IPv4, as people expect of "all addresses".
  if (name.family() == AF_INET6) set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (::bind(fd, name.get(), name.length) < 0) return fail(fd);
  if (::listen(fd, kBacklog) < 0) return fail(fd);
  return fd;
}

int listen_unix(const char* path, unsigned mode) noexcept {
  Name name;
  if (const int error = parse_unix(path, name); error < 0) return error;
  struct stat status {};
  if (::lstat(path, &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) return -EEXIST;
    if (answers(name)) return -EADDRINUSE;
    if (::unlink(path) < 0 && errno != ENOENT) return -errno;
  }
  const int fd = make(AF_UNIX);
  if (fd < 0) return fd;
  // bind(2) takes the mode of the unbound socket less the umask, so nobody may connect in between; chmod
  // then adds what the umask took.
  if (::fchmod(fd, mode & 0777) < 0) return fail(fd);
  if (::bind(fd, name.get(), name.length) < 0) return fail(fd);
  if (::chmod(path, mode & 0777) < 0) return fail(fd);
  if (::listen(fd, kBacklog) < 0) return fail(fd);
  return fd;
}

int adopt_listener(int fd) noexcept {
  if (const int error = adopt(fd, true); error < 0) return error;
  return fd;
}

int adopt_stream(int fd) noexcept {
  if (const int error = adopt(fd, false); error < 0) return error;
  // What has no peer any more is none of our business; a broken connection says so when it is read.
  Name name;
  name.length = sizeof name.storage;
  if (::getpeername(fd, name.get(), &name.length) < 0) return -errno;
  return fd;
}

int accept(int listener) noexcept {
  for (;;) {
    Name name;
    name.length = sizeof name.storage;
    const int fd = ::accept4(listener, name.get(), &name.length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      if (name.family() != AF_UNIX) tune(fd);
      return fd;
    }
    // A connection that died in the queue says nothing about the next one (accept(2), "Error handling").
    switch (errno) {
      case EINTR:
      case ECONNABORTED:
      case EPROTO:
      case ENETDOWN:
      case ENOPROTOOPT:
      case EHOSTDOWN:
      case ENONET:
      case EHOSTUNREACH:
      case EOPNOTSUPP:
      case ENETUNREACH:
        continue;
      default:
        return -errno;
    }
  }
}

int connect_tcp(const char* host, int port) noexcept {
  Name name;
  if (const int error = parse_tcp(host, port, name); error < 0) return error;
  const int fd = make(name.family());
  if (fd < 0) return fd;
  tune(fd);
  if (::connect(fd, name.get(), name.length) < 0 && errno != EINPROGRESS) return fail(fd);
  return fd;
}

int connect_unix(const char* path) noexcept {
  Name name;
  if (const int error = parse_unix(path, name); error < 0) return error;
  const int fd = make(AF_UNIX);
  if (fd < 0) return fd;
  if (::connect(fd, name.get(), name.length) < 0) return fail(fd);
  return fd;
}

int connect_error(int fd) noexcept {
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0) return -errno;
  if (error != 0) return -error;
  // Linux can connect a socket to itself when the peer's port is free and happens to be chosen as ours.
  Name ours;
  Name theirs;
  ours.length = theirs.length = sizeof ours.storage;
  if (::getpeername(fd, theirs.get(), &theirs.length) < 0) return -errno;
  if (theirs.family() != AF_UNIX && ::getsockname(fd, ours.get(), &ours.length) == 0 && ours.length == theirs.length &&
      std::memcmp(&ours.storage, &theirs.storage, ours.length) == 0)
    return -ECONNREFUSED;
  return 0;
}

std::string peer_name(int fd) {
  Name name;
  name.length = sizeof name.storage;
  if (::getpeername(fd, name.get(), &name.length) < 0) return "";
  if (name.family() != AF_UNIX) return render(name);
  std::string path = render(name);
  if (!path.empty()) return path;
  ucred who{};
  socklen_t length = sizeof who;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0) return "unix:";
  return "unix:pid " + std::to_string(who.pid);
}

std::string local_name(int fd) {
  Name name;
  name.length = sizeof name.storage;
  if (::getsockname(fd, name.get(), &name.length) < 0) return "";
  return render(name);
}

}  // namespace net
