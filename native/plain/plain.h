#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "loop/engine.h"

namespace plain {

// The engine without io_uring: socket calls are made at once, file calls by a few threads, which say by
// an eventfd that there are answers. The threads touch nothing but the memory that a step names.
class Plain final : public loop::Engine {
 public:
  Plain() noexcept = default;
  ~Plain() override { close(); }

  [[nodiscard]] int open() noexcept;

  void receive(std::uint32_t index, int fd, std::byte* to, std::size_t length) noexcept override;
  void send(std::uint32_t index, int fd, const msghdr* message) noexcept override;
  void file(std::uint32_t index, const loop::FileStep& step) noexcept override;
  void submit() noexcept override;
  void collect() noexcept override {}
  [[nodiscard]] bool rest() noexcept override { return false; }
  [[nodiscard]] std::size_t drain(std::span<loop::Answer> out) noexcept override;
  [[nodiscard]] int watch_fd() const noexcept override { return event_; }
  void close() noexcept override;

 private:
  struct Task {
    std::uint32_t index;
    loop::FileStep step;
  };
  void work() noexcept;

  int event_ = -1;
  std::deque<loop::Answer> sockets_;  // answered already
  std::deque<Task> staged_;
  std::vector<std::thread> threads_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  std::deque<Task> queue_;
  std::deque<loop::Answer> files_;
  bool stopping_ = false;
};

}  // namespace plain
