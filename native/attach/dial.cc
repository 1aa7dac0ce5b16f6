#include "attach/dial.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "attach/time.h"

namespace attach {

namespace {

void set(int fd, int level, int name, int value) noexcept {
  (void)::setsockopt(fd, level, name, &value, sizeof value);
}

// A server that was started anew while requests were under way knows nothing of the connection, and says so when it
// is asked: within a minute. One that says nothing is waited for, an hour at least: as long as it may be alive it may
// hold writes that it has not carried out, and those must not come after what is sent on another connection.
void set_tcp(int fd) noexcept {
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 30);
  set(fd, IPPROTO_TCP, TCP_KEEPCNT, 120);
}

}  // namespace

Dial::Dial(const Address& address, std::string_view name, const AttachmentId* attachment) noexcept
    : handshake_(name, attachment) {
  const int family = address.name.ss_family;
  fd_ = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd_ < 0) {
    fail("no socket can be made", errno);
    return;
  }
  if (family != AF_UNIX) set_tcp(fd_);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address.name), address.length) == 0)
    state_ = State::kShaking;
  else if (errno != EINPROGRESS)
    // EAGAIN: the queue of a unix listener is full.
    fail("the server cannot be reached", errno);
}

Dial::~Dial() {
  if (fd_ >= 0) ::close(fd_);
}

void Dial::fail(const char* what, int error) noexcept {
  state_ = State::kFailed;
  error_ = error;
  if (error == 0)
    std::snprintf(problem_, sizeof problem_, "%s", what);
  else
    std::snprintf(problem_, sizeof problem_, "%s (%s)", what, ::strerrordesc_np(error));
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

short Dial::events() const noexcept {
  if (is_over()) return 0;
  const bool writes = state_ == State::kConnecting || !handshake_.outgoing().empty();
  return writes ? POLLOUT : POLLIN;
}

void Dial::step() noexcept {
  if (state_ == State::kConnecting) {
    pollfd ready{fd_, POLLOUT, 0};
    if (::poll(&ready, 1, 0) <= 0) return;
    int error = 0;
    socklen_t length = sizeof error;
    if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length) < 0) error = errno;
    if (error != 0) return fail("the server cannot be reached", error);
    state_ = State::kShaking;
  }
  if (state_ == State::kShaking) shake();
}

void Dial::shake() noexcept {
  for (;;) {
    switch (handshake_.state()) {
      case Handshake::State::kDone:
        state_ = State::kDone;
        return;
      case Handshake::State::kFailed:
        return fail(handshake_.problem(), 0);
      case Handshake::State::kGoing:
        break;
    }
    const Bytes out = handshake_.outgoing();
    if (!out.empty()) {
      const ssize_t sent = ::send(fd_, out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) handshake_.sent(static_cast<std::size_t>(sent));
      else if (errno == EAGAIN) return;
      else if (errno != EINTR) return fail("the connection failed during the handshake", errno);
      continue;
    }
    const std::span<std::uint8_t> room = handshake_.room();
    const ssize_t got = ::recv(fd_, room.data(), room.size(), MSG_DONTWAIT);
    if (got > 0) handshake_.received(static_cast<std::size_t>(got));
    else if (got == 0) return fail("the server closed the connection during the handshake", 0);
    else if (errno == EAGAIN) return;
    else if (errno != EINTR) return fail("the connection failed during the handshake", errno);
  }
}

int Dial::release() noexcept {
  const int fd = fd_;
  fd_ = -1;
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags >= 0) (void)::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  return fd;
}

bool finish_dial(Dial& dial, std::int64_t deadline_ms, int stop_fd) noexcept {
  for (;;) {
    dial.step();
    if (dial.is_over()) return true;
    const std::int64_t left = deadline_ms - now_ms();
    if (left <= 0) return false;
    pollfd wait[2] = {{dial.fd(), dial.events(), 0}, {stop_fd, POLLIN, 0}};
    if (::poll(wait, 2, static_cast<int>(left)) > 0 && wait[1].revents != 0) return false;
  }
}

}  // namespace attach
