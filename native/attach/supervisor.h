#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "attach/address.h"
#include "attach/dial.h"
#include "attach/files.h"
#include "attach/link.h"
#include "attach/log.h"
#include "attach/nbd.h"

// Keeps an attached device connected: hears that a connection died, reaches the server again, and gives the kernel
// the new socket.
// From its first turn on it allocates nothing: while the device waits, memory may be what is waited for.
//
//   connected ──hang-up──▶ lost ──LINK_DEAD, or a second──▶ dialing ──▶ connected
//       └──LINK_DEAD──────────────────────────────────────────▲  │failed
//                                                             └── pausing
//   any ──the device was detached──▶ gone       any ──stop──▶ stopped (the device stays attached)
namespace attach {

struct SuperviseTerms {
  const Address* address = nullptr;
  std::string_view name;
  // Told to the server with each connection.
  const AttachmentId* attachment = nullptr;
  // What the kernel was told; a server that offers something else is never connected to the device.
  std::uint64_t size_bytes = 0;
  std::uint32_t block_bytes = 512;
  std::uint16_t flags = 0;
  // False for a device that somebody else attached: its flags are not known but for the one in sysfs.
  bool knows_flags = true;
  std::string_view backend;
  std::uint64_t dead_seconds = 0;

  // The kernel tells in well under a second that a connection is dead. It must know before it takes another one.
  std::int64_t link_dead_ms = 1'000;
  std::int64_t retry_first_ms = 50;
  std::int64_t retry_max_ms = 1'000;
  // A server that answers and does not fit, or a kernel that says no, changes its mind seldom.
  std::int64_t refused_retry_ms = 5'000;
  // A server that has been restarted lets us wait until its volume is active.
  std::int64_t dial_ms = 60'000;
  // How often it is looked whether the device is attached still.
  std::int64_t look_ms = 5'000;
};

enum class Ending : std::uint8_t { kStopped, kGone, kGivenUp };

// Something to hear of beside all this.
class Companion {
 public:
  [[nodiscard]] virtual int fd() const noexcept = 0;
  // Its descriptor is ready. False: give up.
  [[nodiscard]] virtual bool ready() noexcept = 0;

 protected:
  Companion() = default;
  ~Companion() = default;
};

class Supervisor {
 public:
  // `socket` is a copy of what the kernel uses, −1 for none; closed in the end. `events` has joined the family's group.
  Supervisor(Nbd& nbd, Link& events, const DeviceFiles& device, const SuperviseTerms& terms, Log& log,
             const char* notify_socket, int socket) noexcept;
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Until `stop_fd` is readable, or the device is gone.
  [[nodiscard]] Ending run(int stop_fd, Companion* companion) noexcept;
  [[nodiscard]] std::uint32_t reconnections() const noexcept { return reconnections_; }

 private:
  enum class State : std::uint8_t { kConnected, kLost, kPausing, kDialing };

  void hear() noexcept;
  [[nodiscard]] bool is_gone() const noexcept;
  void lost(const char* how) noexcept;
  void dial() noexcept;
  void dialed() noexcept;
  void pause(std::int64_t ms) noexcept;
  void pause_longer() noexcept;
  [[nodiscard]] const char* misfit(const Export& offered) const noexcept;
  void complain(const char* problem) noexcept;
  void tell(const char* status) noexcept;

  Nbd& nbd_;
  Link& events_;
  const DeviceFiles& device_;
  const SuperviseTerms& terms_;
  Log& log_;
  const char* notify_socket_;

  State state_ = State::kConnected;
  // Connections that the kernel called dead and that were not replaced.
  std::uint32_t dead_ = 0;
  int socket_;
  long attached_by_;
  std::optional<Dial> dial_;
  std::int64_t deadline_ = 0;
  std::int64_t next_look_ = 0;
  std::int64_t retry_ms_ = 0;
  std::int64_t lost_at_ = 0;
  bool is_overdue_ = false;
  std::uint32_t attempts_ = 0;
  std::uint32_t reconnections_ = 0;
  // What was complained of last, so that it is not said again with every attempt.
  char complaint_[384] = {};
};

}  // namespace attach
