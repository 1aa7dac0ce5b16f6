#include "attach/link.h"

#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "attach/time.h"

namespace attach {

namespace {

// The kernel answers before the request's send returns; more is patience with whoever plays it.
constexpr int kAnswerMs = 30'000;

}  // namespace

Link::~Link() {
  if (fd_ >= 0) ::close(fd_);
}

int Link::open_kernel() noexcept {
  const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
  if (fd < 0) return -errno;
  sockaddr_nl self{};
  self.nl_family = AF_NETLINK;
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&self), sizeof self) < 0) {
    const int error = -errno;
    ::close(fd);
    return error;
  }
  return fd;
}

int Link::join(std::uint32_t group) noexcept {
  if (!is_kernel_) return 0;
  return ::setsockopt(fd_, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0 ? -errno : 0;
}

int Link::receive(Bytes& out) noexcept {
  for (;;) {
    sockaddr_nl from{};
    iovec part{room_.data(), room_.size()};
    msghdr message{};
    message.msg_name = &from;
    message.msg_namelen = sizeof from;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t length = ::recvmsg(fd_, &message, MSG_DONTWAIT);
    if (length < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    }
    // Other programs may send to our port as well; they have nothing to say.
    if (is_kernel_ && (message.msg_namelen < sizeof from || from.nl_pid != 0)) continue;
    if ((message.msg_flags & MSG_TRUNC) != 0) return -EBADMSG;
    // The other end of a pair was closed.
    if (length == 0) return -EPIPE;
    out = Bytes{room_.data(), static_cast<std::size_t>(length)};
    return static_cast<int>(length);
  }
}

int Link::ask(Bytes request, std::uint32_t sequence, Taker* taker) noexcept {
  if (request.empty()) return -EMSGSIZE;
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  for (;;) {
    const ssize_t sent = ::sendto(fd_, request.data(), request.size(), MSG_NOSIGNAL,
                                  is_kernel_ ? reinterpret_cast<const sockaddr*>(&kernel) : nullptr,
                                  is_kernel_ ? sizeof kernel : 0);
    if (sent >= 0) break;
    if (errno != EINTR) return -errno;
  }
  const std::int64_t deadline = now_ms() + kAnswerMs;
  for (;;) {
    Bytes datagram;
    const int length = receive(datagram);
    if (length < 0) return length;
    if (length == 0) {
      const std::int64_t left = deadline - now_ms();
      if (left <= 0) return -ETIMEDOUT;
      pollfd wait{fd_, POLLIN, 0};
      if (::poll(&wait, 1, static_cast<int>(left)) < 0 && errno != EINTR) return -errno;
      continue;
    }
    Messages messages(datagram);
    Message message;
    while (messages.next(message)) {
      // Left over from an earlier request.
      if (message.sequence != sequence) continue;
      int error = 0;
      switch (message.type) {
        case NLMSG_NOOP:
          break;
        case NLMSG_ERROR:
          // Positive numbers are none that the kernel sends.
          return read_error(message, error) && error <= 0 ? error : -EBADMSG;
        case NLMSG_DONE:
          return read_error(message, error) && error < 0 ? error : 0;
        case NLMSG_OVERRUN:
          return -ENOBUFS;
        default:
          if (taker != nullptr) taker->take(message);
      }
    }
    if (messages.is_broken()) return -EBADMSG;
  }
}

}  // namespace attach
