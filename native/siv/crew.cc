#include "siv/crew.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

namespace siv {

namespace {

// One processor is left to the thread that asks; more than four would outrun every network that the blocks come from.
std::size_t crew_size() noexcept {
  const std::size_t processors = std::thread::hardware_concurrency();
  return std::clamp<std::size_t>(processors, 2, 5) - 1;
}

// A part of consecutive blocks.
Blocks part(const Blocks& blocks, std::size_t first, std::size_t count) noexcept {
  return {blocks.from + first * blocks.bytes, blocks.to + first * blocks.bytes, blocks.bytes, count};
}

Rows part(const Rows& rows, std::size_t first) noexcept { return {rows.at + first * rows.stride, rows.stride}; }

}  // namespace

int Crew::open() noexcept {
  if (event_ >= 0) return -EBUSY;
  event_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event_ < 0) return -errno;
  // Signals are for the main thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  (void)::pthread_sigmask(SIG_SETMASK, &all, &before);
  for (std::size_t i = crew_size(); i > 0; i--) threads_.emplace_back([this] { work(); });
  (void)::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return 0;
}

void Crew::seal(std::shared_ptr<const Key> key, const Blocks& blocks, const Rows& rows, std::byte* hashes,
                double tag) noexcept {
  start(std::make_shared<Job>(Job{std::move(key), blocks, rows, hashes, tag, true}));
}

void Crew::open(std::shared_ptr<const Key> key, const Blocks& blocks, const Rows& rows, double tag) noexcept {
  start(std::make_shared<Job>(Job{std::move(key), blocks, rows, nullptr, tag, false}));
}

void Crew::start(std::shared_ptr<Job> job) noexcept {
  const std::size_t count = std::max<std::size_t>(job->blocks.count, 1);
  const std::size_t per_slice = std::max<std::size_t>(kSliceBytes / job->blocks.bytes, 1);
  job->slice_blocks = std::max(per_slice, (count + kSlicesMax - 1) / kSlicesMax);
  job->slices = (count + job->slice_blocks - 1) / job->slice_blocks;
  const bool one = job->slices == 1;
  in_flight_ += 1;
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(job));
  }
  if (one)
    wake_.notify_one();
  else
    wake_.notify_all();
}

std::size_t Crew::drain(std::span<loop::Done> out) noexcept {
  if (in_flight_ == 0) return 0;
  std::size_t count = 0;
  const std::lock_guard lock(mutex_);
  while (count < out.size() && !answers_.empty()) {
    out[count++] = answers_.front();
    answers_.pop_front();
  }
  in_flight_ -= count;
  return count;
}

void Crew::take_back(const Job& job) noexcept {
  const Blocks& blocks = job.blocks;
  if (blocks.from != blocks.to) return wipe(blocks.to, blocks.count * blocks.bytes);
  for (std::size_t slice = 0; slice < job.slices; slice++) {
    if (((job.opened >> slice) & 1U) == 0) continue;
    const std::size_t first = slice * job.slice_blocks;
    const std::size_t count = std::min(job.slice_blocks, blocks.count - first);
    unopen_blocks(*job.key, part(blocks, first, count), part(job.rows, first));
  }
}

void Crew::work() noexcept {
  Nonces nonces;
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    std::shared_ptr<Job> job = queue_.front();
    const std::size_t slice = job->taken++;
    if (job->taken == job->slices) queue_.pop_front();
    const bool hopeless = job->bad >= 0;
    lock.unlock();

    const std::size_t first = slice * job->slice_blocks;
    const Blocks blocks = part(job->blocks, first, std::min(job->slice_blocks, job->blocks.count - first));
    const Rows rows = part(job->rows, first);
    std::ptrdiff_t bad = -1;
    if (job->seals)
      seal_blocks(*job->key, &nonces, blocks, rows,
                  job->hashes == nullptr ? nullptr : job->hashes + first * rows.stride);
    else if (!hopeless)
      bad = open_blocks(*job->key, blocks, rows);

    lock.lock();
    if (bad >= 0) {
      const std::ptrdiff_t index = static_cast<std::ptrdiff_t>(first) + bad;
      job->bad = job->bad < 0 ? index : std::min(job->bad, index);
    } else if (!job->seals && !hopeless) {
      job->opened |= 1ULL << slice;
    }
    job->done += 1;
    if (job->done < job->slices) continue;
    if (job->bad >= 0) {
      lock.unlock();
      take_back(*job);
      lock.lock();
    }
    const bool was_empty = answers_.empty();
    answers_.push_back({job->tag, static_cast<double>(job->bad)});
    // As in plain.cc: every write is an edge, and the counter is never read.
    if (was_empty) {
      const std::uint64_t value = 1;
      (void)!::write(event_, &value, sizeof value);
    }
  }
}

void Crew::close() noexcept {
  if (event_ < 0) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    queue_.clear();
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  ::close(event_);
  event_ = -1;
}

}  // namespace siv
