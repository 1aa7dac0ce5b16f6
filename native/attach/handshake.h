#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "attach/identity.h"
#include "attach/message.h"

// The client's side of NBD's fixed newstyle handshake, up to the end of GO: bytes in, bytes out, no socket, no clock.
//
//   greeting ──▶ reply header ◀─▶ reply data ──ACK of GO──▶ done
//       └────────────┴──────────────┴─────────────────▶ failed
//
// Before GO it tells for which attachment the connection is. That option is of our own: a server that refuses it goes on all the same.
//
// No structured replies, extended headers or contexts are asked for: the kernel, which gets the socket afterwards,
// knows none.
// It never asks for a byte beyond the handshake, so nothing is lost when the socket changes hands.
namespace attach {

inline constexpr std::size_t kNameBytesMax = 4096;

// Transmission flags.
inline constexpr std::uint16_t kReadOnlyFlag = 0x0002;
inline constexpr std::uint16_t kFlushFlag = 0x0004;
inline constexpr std::uint16_t kFuaFlag = 0x0008;
inline constexpr std::uint16_t kTrimFlag = 0x0020;
inline constexpr std::uint16_t kWriteZeroesFlag = 0x0040;

struct Export {
  std::uint64_t size_bytes = 0;
  std::uint16_t flags = 0;
  // Zero when the server does not say.
  std::uint32_t minimum_bytes = 0;
  std::uint32_t preferred_bytes = 0;
  std::uint32_t maximum_bytes = 0;
};

class Handshake {
 public:
  enum class State : std::uint8_t { kGoing, kDone, kFailed };
  // Why it failed: the peer speaks something else, or understood and refused.
  enum class Failure : std::uint8_t { kNone, kProtocol, kUnknownExport, kRefused };

  // A name of at most kNameBytesMax bytes. Without an id nothing is said of attachments.
  Handshake(std::string_view name, const AttachmentId* attachment) noexcept;

  [[nodiscard]] State state() const noexcept { return state_; }
  [[nodiscard]] Failure failure() const noexcept { return failure_; }
  // What failed, for people; what the server said is in it, its control characters are not.
  [[nodiscard]] const char* problem() const noexcept { return problem_.data(); }
  [[nodiscard]] const Export& offered() const noexcept { return export_; }

  // What is to be sent now, and that so much of it was.
  [[nodiscard]] Bytes outgoing() const noexcept;
  void sent(std::size_t length) noexcept;

  // Where received bytes go, at most so many: empty when something is to be sent first, or when it is over.
  [[nodiscard]] std::span<std::uint8_t> room() noexcept;
  void received(std::size_t length) noexcept;

 private:
  enum class Step : std::uint8_t { kGreeting, kHeader, kData };

  void expect(Step step, std::size_t length) noexcept;
  // Behind `at` bytes that go before it.
  void send_attachment(std::size_t at) noexcept;
  void send_go(std::size_t at) noexcept;
  void send_option(std::size_t at, std::uint32_t option, std::size_t data_bytes) noexcept;
  void greeting() noexcept;
  void header() noexcept;
  void reply() noexcept;
  void info() noexcept;
  void fail(Failure failure, const char* problem, Bytes said = {}) noexcept;

  State state_ = State::kGoing;
  Failure failure_ = Failure::kNone;
  Step step_ = Step::kGreeting;
  Export export_;
  bool has_export_ = false;
  std::uint32_t replies_ = 0;

  std::array<std::uint8_t, kNameBytesMax> name_;
  std::size_t name_bytes_ = 0;
  std::array<std::uint8_t, kNameBytesMax + 64> out_;
  std::size_t out_bytes_ = 0;
  std::size_t out_sent_ = 0;

  // The beginning of a reply's data is kept; what does not fit is received and dropped.
  std::array<std::uint8_t, 1024> in_;
  std::array<std::uint8_t, 1024> dropped_;
  std::size_t wanted_ = 0;
  std::size_t have_ = 0;
  std::uint32_t reply_type_ = 0;
  std::uint32_t option_ = 0;
  AttachmentId attachment_{};
  bool has_attachment_ = false;

  std::array<char, 256> problem_{};
};

}  // namespace attach
