#include "attach/supervisor.h"

#include <linux/nbd-netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "attach/time.h"
#include "sys/sys.h"

namespace attach {

namespace {

// More than anybody attaches with.
constexpr std::uint32_t kDeadMax = 64;
// What the file system relies on once it was offered.
constexpr std::uint16_t kFlagsRelied = kFlushFlag | kFuaFlag | kTrimFlag | kWriteZeroesFlag;

}  // namespace

Supervisor::Supervisor(Nbd& nbd, Link& events, const DeviceFiles& device, const SuperviseTerms& terms, Log& log,
                       const char* notify_socket, int socket) noexcept
    : nbd_(nbd),
      events_(events),
      device_(device),
      terms_(terms),
      log_(log),
      notify_socket_(notify_socket),
      socket_(socket),
      attached_by_(device.attached_by()) {}

Supervisor::~Supervisor() {
  if (socket_ >= 0) ::close(socket_);
}

Ending Supervisor::run(int stop_fd, Companion* companion) noexcept {
  next_look_ = now_ms() + terms_.look_ms;
  for (;;) {
    const bool is_dialing = state_ == State::kDialing;
    const bool watches = state_ == State::kConnected && socket_ >= 0;
    // The socket is the kernel's to read: data on it wakes nobody here, only its end does.
    const pollfd peer = is_dialing ? pollfd{dial_->fd(), dial_->events(), 0}
                                   : pollfd{watches ? socket_ : -1, POLLRDHUP, 0};
    pollfd wait[4] = {{stop_fd, POLLIN, 0},
                      {events_.fd(), POLLIN, 0},
                      peer,
                      {companion == nullptr ? -1 : companion->fd(), POLLIN, 0}};
    const std::int64_t until = state_ == State::kConnected ? next_look_ : std::min(deadline_, next_look_);
    const std::int64_t left = std::clamp<std::int64_t>(until - now_ms(), 0, 60'000);
    if (::poll(wait, 4, static_cast<int>(left)) < 0) {
      if (errno == EINTR) continue;
      log_.line(Log::Level::kError, "poll failed: %s", ::strerrordesc_np(errno));
      return Ending::kGivenUp;
    }
    if (wait[0].revents != 0) return Ending::kStopped;
    if (wait[3].revents != 0) {
      if (!companion->ready()) return Ending::kGivenUp;
      if (companion->fd() < 0) companion = nullptr;
    }
    if (wait[1].revents != 0) hear();

    const std::int64_t now = now_ms();
    if (now >= next_look_) {
      if (is_gone()) return Ending::kGone;
      next_look_ = now + terms_.look_ms;
      if (state_ != State::kConnected && !is_overdue_ && terms_.dead_seconds > 0 &&
          now - lost_at_ > static_cast<std::int64_t>(terms_.dead_seconds) * 1000) {
        is_overdue_ = true;
        log_.line(Log::Level::kError,
                  "away for longer than %" PRIu64 " s: requests fail with I/O errors now; it is tried on all the same",
                  terms_.dead_seconds);
      }
    }
    switch (state_) {
      case State::kConnected:
        if (watches && wait[2].revents != 0) {
          // The kernel has to see the end before it takes another socket in this one's place.
          (void)::shutdown(socket_, SHUT_RDWR);
          ::close(socket_);
          socket_ = -1;
          lost_at_ = now;
          state_ = State::kLost;
          deadline_ = dead_ > 0 ? now : now + terms_.link_dead_ms;
        } else if (dead_ > 0) {
          lost_at_ = now;
          lost("the kernel gave it up");
          dial();
        }
        break;
      case State::kLost:
        if (dead_ == 0 && now < deadline_) break;
        // A connection ends when the device is detached, too, and then the kernel does not call it dead.
        if (is_gone()) return Ending::kGone;
        dead_ = std::max(dead_, 1U);
        lost("the server closed it");
        dial();
        break;
      case State::kPausing:
        if (now < deadline_) break;
        if (is_gone()) return Ending::kGone;
        dial();
        break;
      case State::kDialing:
        if (is_dialing && wait[2].revents != 0) dial_->step();
        if (dial_->is_over()) dialed();
        else if (now >= deadline_) {
          complain("the server took the connection and does not answer");
          pause_longer();
        }
        break;
    }
  }
}

void Supervisor::hear() noexcept {
  for (;;) {
    Bytes datagram;
    const int length = events_.receive(datagram);
    if (length == 0) return;
    if (length < 0) {
      // Lost messages may have been about us. With a socket of our own to look at we know; without one a superfluous
      // try does no harm.
      if (length == -ENOBUFS && socket_ < 0 && state_ == State::kConnected) dead_ = std::max(dead_, 1U);
      if (length == -ENOBUFS || length == -EBADMSG) continue;
      return;
    }
    Messages messages(datagram);
    Message message;
    while (messages.next(message)) {
      std::uint32_t index = 0;
      if (!read_index(message, nbd_.family().id, NBD_CMD_LINK_DEAD, index) || index != device_.index()) continue;
      dead_ = std::min(dead_ + 1, kDeadMax);
    }
  }
}

// Also when somebody detached the device and somebody attached it again; not when it cannot be found out.
bool Supervisor::is_gone() const noexcept {
  const long now = device_.attached_by();
  return now == 0 || (now > 0 && attached_by_ > 0 && now != attached_by_);
}

void Supervisor::lost(const char* how) noexcept {
  is_overdue_ = false;
  attempts_ = 0;
  retry_ms_ = 0;
  complaint_[0] = '\0';
  log_.line(Log::Level::kWarning, "connection to %s lost: %s", terms_.address->text, how);
  tell("STATUS=connection lost, connecting again");
}

void Supervisor::dial() noexcept {
  attempts_ += 1;
  state_ = State::kDialing;
  deadline_ = now_ms() + terms_.dial_ms;
  dial_.emplace(*terms_.address, terms_.name, terms_.attachment);
  dial_->step();
  if (dial_->is_over()) dialed();
}

void Supervisor::dialed() noexcept {
  if (dial_->state() == Dial::State::kFailed) {
    complain(dial_->problem());
    // A server that was reached and refuses is asked less often.
    if (dial_->handshake().state() == Handshake::State::kFailed) pause(terms_.refused_retry_ms);
    else pause_longer();
    return;
  }
  const char* problem = misfit(dial_->handshake().offered());
  if (problem != nullptr) {
    complain(problem);
    pause(terms_.refused_retry_ms);
    return;
  }
  const int socket = dial_->release();
  dial_.reset();
  ReconfigureTerms terms;
  terms.index = device_.index();
  terms.backend = terms_.backend;
  terms.socket = socket;
  const int error = nbd_.reconfigure(terms);
  if (error < 0) {
    ::close(socket);
    char text[128];
    std::snprintf(text, sizeof text, "the kernel does not take the connection: %s", ::strerrordesc_np(-error));
    complain(text);
    pause(terms_.refused_retry_ms);
    return;
  }
  if (socket_ >= 0) ::close(socket_);
  socket_ = socket;
  reconnections_ += 1;
  dead_ = dead_ > 0 ? dead_ - 1 : 0;
  state_ = State::kConnected;
  const std::int64_t away = now_ms() - lost_at_;
  log_.line(Log::Level::kInfo, "connected to %s again after %" PRId64 ".%03d s", terms_.address->text, away / 1000,
            static_cast<int>(away % 1000));
  tell("STATUS=connected");
}

void Supervisor::pause(std::int64_t ms) noexcept {
  dial_.reset();
  state_ = State::kPausing;
  deadline_ = now_ms() + ms;
}

void Supervisor::pause_longer() noexcept {
  retry_ms_ = retry_ms_ == 0 ? terms_.retry_first_ms : std::min(retry_ms_ * 2, terms_.retry_max_ms);
  pause(retry_ms_);
}

const char* Supervisor::misfit(const Export& offered) const noexcept {
  if (offered.size_bytes / terms_.block_bytes * terms_.block_bytes != terms_.size_bytes)
    return "the server offers a volume of another size than the one that is attached: not connected";
  const bool is_read_only = (offered.flags & kReadOnlyFlag) != 0;
  const bool was_read_only = terms_.knows_flags ? (terms_.flags & kReadOnlyFlag) != 0 : device_.is_read_only();
  if (is_read_only && !was_read_only) return "the server offers the volume read-only now: not connected";
  if (terms_.knows_flags && (terms_.flags & kFlagsRelied & ~offered.flags) != 0)
    return "the server offers less than before (flush, FUA, trim or write-zeroes): not connected";
  return nullptr;
}

void Supervisor::complain(const char* problem) noexcept {
  if (std::strcmp(problem, complaint_) == 0) return;
  std::snprintf(complaint_, sizeof complaint_, "%s", problem);
  log_.line(Log::Level::kWarning, "%s: %s; it is tried on", terms_.address->text, problem);
}

void Supervisor::tell(const char* status) noexcept {
  if (notify_socket_ != nullptr) (void)sys::notify(notify_socket_, status);
}

}  // namespace attach
