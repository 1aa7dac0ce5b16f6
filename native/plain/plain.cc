#include "plain/plain.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

namespace plain {

namespace {

// Enough to keep one disk busy; more would only compete with the loop for processors.
constexpr int kThreads = 4;

std::int32_t answer(ssize_t count) noexcept { return count < 0 ? -errno : static_cast<std::int32_t>(count); }

std::int32_t run(const loop::FileStep& step) noexcept {
  const std::size_t length = std::min<std::size_t>(step.length, 1U << 30);
  const auto offset = static_cast<off_t>(step.offset);
  switch (step.call) {
    case loop::FileCall::read:
      return answer(::pread(step.fd, step.at, length, offset));
    case loop::FileCall::write:
      return answer(::pwrite(step.fd, step.at, length, offset));
    case loop::FileCall::write_vector:
      return answer(::pwritev(step.fd, step.vectors, static_cast<int>(step.vector_count), offset));
    case loop::FileCall::sync:
      return answer(::fsync(step.fd));
    case loop::FileCall::data_sync:
      return answer(::fdatasync(step.fd));
  }
  return -EINVAL;
}

}  // namespace

int Plain::open() noexcept {
  if (event_ >= 0) return -EBUSY;
  event_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event_ < 0) return -errno;
  // Signals are for the main thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  (void)::pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int i = 0; i < kThreads; i++) threads_.emplace_back([this] { work(); });
  (void)::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return 0;
}

void Plain::receive(std::uint32_t index, int fd, std::byte* to, std::size_t length) noexcept {
  const std::int32_t result = answer(::recv(fd, to, length, MSG_DONTWAIT));
  sockets_.push_back({loop::Kind::receive, index, result});
}

void Plain::send(std::uint32_t index, int fd, const msghdr* message) noexcept {
  const std::int32_t result = answer(::sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL));
  sockets_.push_back({loop::Kind::send, index, result});
}

void Plain::file(std::uint32_t index, const loop::FileStep& step) noexcept { staged_.push_back({index, step}); }

void Plain::submit() noexcept {
  if (staged_.empty()) return;
  const std::size_t count = staged_.size();
  {
    const std::lock_guard lock(mutex_);
    queue_.insert(queue_.end(), staged_.begin(), staged_.end());
  }
  staged_.clear();
  if (count == 1)
    wake_.notify_one();
  else
    wake_.notify_all();
}

std::size_t Plain::drain(std::span<loop::Answer> out) noexcept {
  std::size_t count = 0;
  while (count < out.size() && !sockets_.empty()) {
    out[count++] = sockets_.front();
    sockets_.pop_front();
  }
  if (count == out.size()) return count;
  const std::lock_guard lock(mutex_);
  while (count < out.size() && !files_.empty()) {
    out[count++] = files_.front();
    files_.pop_front();
  }
  return count;
}

void Plain::work() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;  // what was queued is still done before stopping
    const Task task = queue_.front();
    queue_.pop_front();
    lock.unlock();
    const std::int32_t result = run(task.step);
    lock.lock();
    const bool first = files_.empty();
    files_.push_back({loop::Kind::file, task.index, result});
    // Watched edge by edge: every write of the counter is an edge, so it is never read. It overflows
    // after 2^64 writes.
    if (first) {
      const std::uint64_t one = 1;
      (void)!::write(event_, &one, sizeof one);
    }
  }
}

void Plain::close() noexcept {
  if (event_ < 0) return;
  submit();
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  ::close(event_);
  event_ = -1;
}

}  // namespace plain
