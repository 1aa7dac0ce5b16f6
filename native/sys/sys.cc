#include "sys/sys.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace sys {

namespace {

struct Rights {
  alignas(cmsghdr) char bytes[CMSG_SPACE(kDescriptors * sizeof(int))];
};

// The control part of a message; `rights` must stay until it was sent.
int attach(msghdr& message, Rights& rights, std::span<const int> descriptors) noexcept {
  if (descriptors.size() > kDescriptors) return -EINVAL;
  if (descriptors.empty()) return 0;
  const std::size_t bytes = descriptors.size() * sizeof(int);
  message.msg_control = rights.bytes;
  message.msg_controllen = CMSG_SPACE(bytes);
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(bytes);
  std::memcpy(CMSG_DATA(head), descriptors.data(), bytes);
  return 0;
}

// Until `fd` has something to say. Zero, −ETIMEDOUT, or another negative errno.
int wait(int fd, short events, int timeout_ms) noexcept {
  for (;;) {
    pollfd one{fd, events, 0};
    const int count = ::poll(&one, 1, timeout_ms);
    if (count > 0) return 0;
    if (count == 0) return -ETIMEDOUT;
    if (errno != EINTR) return -errno;
  }
}

}  // namespace

int notify(std::string_view path, std::string_view text, std::span<const int> descriptors) noexcept {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (path.empty() || (path.front() != '/' && path.front() != '@')) return -EINVAL;
  if (path.size() >= sizeof to.sun_path) return -ENAMETOOLONG;
  std::memcpy(to.sun_path, path.data(), path.size());
  if (path.front() == '@') to.sun_path[0] = '\0';
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  Rights rights{};
  int error = attach(message, rights, descriptors);
  if (error < 0) return error;
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  // Not waiting: a service manager that does not read must not stop the data path.
  if (::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) error = -errno;
  ::close(fd);
  return error;
}

int notify_barrier(std::string_view path, int timeout_ms) noexcept {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return -errno;
  const int sent[1] = {ends[1]};
  int error = notify(path, "BARRIER=1", sent);
  ::close(ends[1]);
  // The manager closes its copy when it comes to this message, and we see the end.
  if (error == 0) error = wait(ends[0], 0, timeout_ms);
  ::close(ends[0]);
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

int memory_file(const char* name) noexcept {
  const int fd = ::memfd_create(name, MFD_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int pair(int (&ends)[2]) noexcept {
  return ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0 ? -errno : 0;
}

int send_descriptors(int socket, std::span<const int> descriptors) noexcept {
  char byte = 'd';
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  Rights rights{};
  const int error = attach(message, rights, descriptors);
  if (error < 0) return error;
  for (;;) {
    if (::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return 0;
    if (errno != EINTR) return -errno;
  }
}

int receive_descriptors(int socket, int timeout_ms, std::vector<int>& out) {
  const int error = wait(socket, POLLIN, timeout_ms);
  if (error < 0) return error;
  char byte = 0;
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  Rights rights{};
  message.msg_control = rights.bytes;
  message.msg_controllen = sizeof rights.bytes;
  ssize_t count = 0;
  do count = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (count < 0 && errno == EINTR);
  if (count < 0) return -errno;
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t before = out.size();
    out.resize(before + (head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(out.data() + before, CMSG_DATA(head), (out.size() - before) * sizeof(int));
  }
  if (count == 0) return -ECONNRESET;
  // Those that did not fit were thrown away by the kernel: what is missing must not be taken for all.
  return (message.msg_flags & MSG_CTRUNC) != 0 ? -EMFILE : 0;
}

}  // namespace sys
