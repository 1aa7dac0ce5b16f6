#pragma once
#include <cstdint>
#include <string_view>

#include "attach/address.h"
#include "attach/handshake.h"

namespace attach {

// One attempt to reach a server: connection and handshake, step by step, so that whoever waits can hear other things
// meanwhile.
//
//   connecting ──▶ shaking hands ──▶ done, the socket is there for `release`
//       └────────────────┴──▶ failed
class Dial {
 public:
  enum class State : std::uint8_t { kConnecting, kShaking, kDone, kFailed };

  // Without an id it belongs to no attachment.
  Dial(const Address& address, std::string_view name, const AttachmentId* attachment) noexcept;
  ~Dial();
  Dial(const Dial&) = delete;
  Dial& operator=(const Dial&) = delete;

  [[nodiscard]] State state() const noexcept { return state_; }
  [[nodiscard]] bool is_over() const noexcept { return state_ == State::kDone || state_ == State::kFailed; }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  // What poll shall wait for.
  [[nodiscard]] short events() const noexcept;
  // Goes on as far as it goes without waiting.
  void step() noexcept;

  [[nodiscard]] const Handshake& handshake() const noexcept { return handshake_; }
  // Why it failed; errno 0 when the system has no name for it.
  [[nodiscard]] const char* problem() const noexcept { return problem_; }
  [[nodiscard]] int error() const noexcept { return error_; }

  // The socket, blocking like any other; the caller closes it.
  [[nodiscard]] int release() noexcept;

 private:
  void fail(const char* what, int error) noexcept;
  void shake() noexcept;

  Handshake handshake_;
  State state_ = State::kConnecting;
  int fd_ = -1;
  int error_ = 0;
  char problem_[384] = {};
};

// Waits until it is over, or `stop_fd` (−1: none) is readable, or the time is up: true when it is over.
[[nodiscard]] bool finish_dial(Dial& dial, std::int64_t deadline_ms, int stop_fd) noexcept;

}  // namespace attach
