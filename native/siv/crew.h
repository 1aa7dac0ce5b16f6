#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "loop/source.h"
#include "siv/blocks.h"

namespace siv {

// A few threads that seal and open for a thread that has no time for it. They touch nothing but the memory that a job names, which has
// to stay until the job is answered.
//
//   start ─▶ cut into slices, so that all threads work on it ─▶ last slice done ─▶ (one bad: all is taken back) ─▶ answer
class Crew final : public loop::Source {
 public:
  Crew() noexcept = default;
  ~Crew() override { close(); }

  // Zero, or a negative errno.
  [[nodiscard]] int open() noexcept;
  // Waits for slices under way. What waits is dropped, and nobody is told.
  void close() noexcept;

  // As `seal_blocks` and `open_blocks`, with random nonces. Answered under `tag` with −1, or the index of a bad block.
  void seal(std::shared_ptr<const Key> key, const Blocks& blocks, const Rows& rows, std::byte* hashes,
            double tag) noexcept;
  void open(std::shared_ptr<const Key> key, const Blocks& blocks, const Rows& rows, double tag) noexcept;

  [[nodiscard]] std::size_t drain(std::span<loop::Done> out) noexcept override;
  [[nodiscard]] int watch_fd() const noexcept override { return event_; }

 private:
  struct Job {
    std::shared_ptr<const Key> key;
    Blocks blocks;
    Rows rows;
    std::byte* hashes;
    double tag;
    bool seals;
    std::size_t slice_blocks = 0;
    std::size_t slices = 0;
    // Guarded by the mutex.
    std::size_t taken = 0;
    std::size_t done = 0;
    std::uint64_t opened = 0;  // a bit for each slice
    std::ptrdiff_t bad = -1;
  };
  static constexpr std::size_t kSliceBytes = 64 * 1024;
  static constexpr std::size_t kSlicesMax = 64;

  void start(std::shared_ptr<Job> job) noexcept;
  void work() noexcept;
  static void take_back(const Job& job) noexcept;

  int event_ = -1;
  std::size_t in_flight_ = 0;  // jobs not drained yet; the starting thread's
  std::vector<std::thread> threads_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::deque<loop::Done> answers_;
  bool stopping_ = false;
};

}  // namespace siv
