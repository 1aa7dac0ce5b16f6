#pragma once
#include <cstdint>

#include "attach/files.h"
#include "attach/supervisor.h"

namespace attach {

struct SettleTerms {
  std::uint64_t size_bytes = 0;
  // Zero: as the kernel has it.
  unsigned read_ahead_kib = 0;
  unsigned max_request_kib = 0;
  std::int64_t patience_ms = 20'000;
};

// What has to happen before a device that the kernel has just taken is of use: the size appears, somebody opens it
// once (partitions are looked for then) and reads from it, queues are tuned, udev has made its links. All this may
// wait for the server, so a child does it while the parent keeps the device connected already.
class Settling : public Companion {
 public:
  Settling(const DeviceFiles& device, const SettleTerms& terms) noexcept : device_(device), terms_(terms) {}
  virtual ~Settling();
  Settling(const Settling&) = delete;
  Settling& operator=(const Settling&) = delete;

  // Starts the child: zero, or a negative errno.
  [[nodiscard]] int start() noexcept;

  [[nodiscard]] int fd() const noexcept override { return fd_; }
  [[nodiscard]] bool ready() noexcept override;
  // Called once, with nullptr when all is well, or with what went wrong. The answer: whether to go on.
  virtual bool settled(const char* problem) noexcept = 0;

 private:
  [[noreturn]] void child(int out) noexcept;
  const DeviceFiles& device_;
  const SettleTerms terms_;
  int fd_ = -1;
  int child_ = -1;
};

// Waits while udev has events under way: true when it has none, or does not run.
bool wait_for_udev(const char* root, std::int64_t deadline_ms) noexcept;

}  // namespace attach
