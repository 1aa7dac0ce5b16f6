#pragma once
#include <liburing.h>

#include <array>

#include "loop/engine.h"

namespace ring {

// The engine over io_uring. To be used by one thread only, the one that opened it.
class Ring final : public loop::Engine {
 public:
  Ring() noexcept = default;
  ~Ring() override { close(); }

  // Zero, or a negative errno: −ENOSYS, −EPERM, −ENOMEM and the like mean that this machine does not
  // want io_uring to be used.
  [[nodiscard]] int open() noexcept;

  void receive(std::uint32_t index, int fd, std::byte* to, std::size_t length) noexcept override;
  void send(std::uint32_t index, int fd, const msghdr* message) noexcept override;
  void file(std::uint32_t index, const loop::FileStep& step) noexcept override;
  void submit() noexcept override;
  void collect() noexcept override;
  [[nodiscard]] bool rest() noexcept override;
  [[nodiscard]] std::size_t drain(std::span<loop::Answer> out) noexcept override;
  [[nodiscard]] int watch_fd() const noexcept override { return event_ >= 0 ? event_ : ring_.ring_fd; }
  void close() noexcept override;

 private:
  // A socket operation not given to the ring yet.
  struct Held {
    loop::Kind kind;
    std::uint32_t index;
    int fd;
    void* at;  // memory, or the message
    std::size_t length;
  };
  // So few socket operations are cheaper as plain system calls than as a trip through the ring.
  static constexpr std::size_t kHeld = 2;

  void hold(const Held& operation) noexcept;
  void stage_held() noexcept;
  void carry_out_held() noexcept;
  [[nodiscard]] io_uring_sqe* next(loop::Kind kind) noexcept;
  void enter() noexcept;

  std::array<Held, kHeld> held_{};
  std::size_t held_count_ = 0;
  std::array<loop::Answer, kHeld> direct_{};  // answers of held operations
  std::size_t direct_count_ = 0;

  io_uring ring_{};
  int event_ = -1;  // with deferred work the ring's own descriptor does not report
  bool open_ = false;
  bool deferred_ = false;  // completions of file operations are only posted when we ask
  unsigned staged_ = 0;
  unsigned in_flight_ = 0;
  unsigned files_in_flight_ = 0;
};

}  // namespace ring
