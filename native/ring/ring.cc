#include "ring/ring.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>

namespace ring {

namespace {

constexpr unsigned kEntries = 512;
constexpr unsigned kCompletions = 4096;

// The least that the data path relies on: answers are never dropped, and what an operation refers to
// is read when it is submitted (Linux 5.5).
constexpr unsigned kNeeded = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;

// From the leanest to what any ring offers. Deferred work means that the kernel never interrupts us to
// post a completion: it is done inside the calls that we make anyway.
constexpr std::array<unsigned, 3> kFlags = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    0,
};

// `prep` functions clear the whole entry, so the name of an operation is set after them.
void mark(io_uring_sqe* sqe, loop::Kind kind, std::uint32_t index) noexcept {
  io_uring_sqe_set_data64(sqe, (static_cast<std::uint64_t>(kind) << 32) | index);
}

}  // namespace

int Ring::open() noexcept {
  if (open_) return -EBUSY;
  int error = -EINVAL;
  for (const unsigned flags : kFlags) {
    io_uring_params params{};
    params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = kCompletions;
    error = io_uring_queue_init_params(kEntries, &ring_, &params);
    if (error == -EINVAL) continue;
    if (error < 0) return error;
    if ((params.features & kNeeded) != kNeeded) {
      io_uring_queue_exit(&ring_);
      return -ENOSYS;
    }
    if ((flags & IORING_SETUP_DEFER_TASKRUN) != 0) {
      event_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
      error = event_ < 0 ? -errno : io_uring_register_eventfd(&ring_, event_);
      if (error < 0) {
        io_uring_queue_exit(&ring_);
        return error;
      }
    }
    open_ = true;
    deferred_ = flags != 0;
    (void)io_uring_register_ring_fd(&ring_);  // saves a descriptor look-up per call, where it exists
    return 0;
  }
  return error;
}

io_uring_sqe* Ring::next(loop::Kind kind) noexcept {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {
    enter();
    sqe = io_uring_get_sqe(&ring_);
  }
  staged_ += 1;
  in_flight_ += 1;
  if (kind == loop::Kind::file) files_in_flight_ += 1;
  return sqe;
}

void Ring::receive(std::uint32_t index, int fd, std::byte* to, std::size_t length) noexcept {
  hold({loop::Kind::receive, index, fd, to, length});
}

void Ring::send(std::uint32_t index, int fd, const msghdr* message) noexcept {
  hold({loop::Kind::send, index, fd, const_cast<msghdr*>(message), 0});
}

void Ring::hold(const Held& operation) noexcept {
  if (held_count_ == held_.size()) stage_held();
  held_[held_count_++] = operation;
}

void Ring::stage_held() noexcept {
  for (std::size_t i = 0; i < held_count_; i++) {
    const Held& held = held_[i];
    io_uring_sqe* sqe = next(held.kind);
    if (held.kind == loop::Kind::receive)
      io_uring_prep_recv(sqe, held.fd, held.at, held.length, MSG_DONTWAIT);
    else
      io_uring_prep_sendmsg(sqe, held.fd, static_cast<msghdr*>(held.at), MSG_DONTWAIT | MSG_NOSIGNAL);
    mark(sqe, held.kind, held.index);
  }
  held_count_ = 0;
}

void Ring::carry_out_held() noexcept {
  for (std::size_t i = 0; i < held_count_; i++) {
    const Held& held = held_[i];
    const ssize_t count = held.kind == loop::Kind::receive
                              ? ::recv(held.fd, held.at, held.length, MSG_DONTWAIT)
                              : ::sendmsg(held.fd, static_cast<msghdr*>(held.at), MSG_DONTWAIT | MSG_NOSIGNAL);
    direct_[direct_count_++] = {held.kind, held.index, count < 0 ? -errno : static_cast<std::int32_t>(count)};
  }
  held_count_ = 0;
}

void Ring::file(std::uint32_t index, const loop::FileStep& step) noexcept {
  io_uring_sqe* sqe = next(loop::Kind::file);
  const auto length = static_cast<unsigned>(std::min<std::size_t>(step.length, 1U << 30));
  switch (step.call) {
    case loop::FileCall::read:
      io_uring_prep_read(sqe, step.fd, step.at, length, step.offset);
      break;
    case loop::FileCall::write:
      io_uring_prep_write(sqe, step.fd, step.at, length, step.offset);
      break;
    case loop::FileCall::write_vector:
      io_uring_prep_writev(sqe, step.fd, step.vectors, step.vector_count, step.offset);
      break;
    case loop::FileCall::sync:
      io_uring_prep_fsync(sqe, step.fd, 0);
      break;
    case loop::FileCall::data_sync:
      io_uring_prep_fsync(sqe, step.fd, IORING_FSYNC_DATASYNC);
      break;
  }
  mark(sqe, loop::Kind::file, index);
  if (step.may_wait) sqe->flags |= IOSQE_ASYNC;
}

void Ring::enter() noexcept {
  const bool ask = deferred_ && files_in_flight_ > 0;
  for (;;) {
    const int taken = ask ? io_uring_submit_and_get_events(&ring_) : io_uring_submit(&ring_);
    if (taken >= 0) {
      staged_ -= std::min(staged_, static_cast<unsigned>(taken));
      return;
    }
    // EBUSY: the completion queue must be drained first, and the kernel keeps what overflowed.
    if (taken == -EBUSY || taken == -EAGAIN) {
      (void)io_uring_get_events(&ring_);
      return;
    }
    if (taken != -EINTR) std::abort();  // the ring's own rules are broken: nothing sensible can follow
  }
}

// While we are at work we look for answers ourselves: being told of each would cost more than the answer.
void Ring::submit() noexcept {
  if (staged_ == 0 && direct_count_ == 0) carry_out_held();
  stage_held();
  if (staged_ == 0) return;
  if (event_ >= 0) (void)io_uring_cq_eventfd_toggle(&ring_, false);
  enter();
}

bool Ring::rest() noexcept {
  if (event_ < 0 || files_in_flight_ == 0) return false;
  (void)io_uring_cq_eventfd_toggle(&ring_, true);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const bool pending = (IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_TASKRUN) != 0;
  if (pending) collect();
  return io_uring_cq_ready(&ring_) > 0;
}

void Ring::collect() noexcept {
  if (deferred_) (void)io_uring_get_events(&ring_);
}

std::size_t Ring::drain(std::span<loop::Answer> out) noexcept {
  std::size_t count = 0;
  while (count < out.size() && direct_count_ > 0) out[count++] = direct_[--direct_count_];
  while (count < out.size()) {
    io_uring_cqe* cqe = nullptr;
    if (io_uring_peek_cqe(&ring_, &cqe) != 0) break;
    const auto kind = static_cast<loop::Kind>(cqe->user_data >> 32);
    out[count++] = {kind, static_cast<std::uint32_t>(cqe->user_data), cqe->res};
    if (kind == loop::Kind::file) files_in_flight_ -= 1;
    in_flight_ -= 1;
    io_uring_cqe_seen(&ring_, cqe);
  }
  return count;
}

void Ring::close() noexcept {
  if (!open_) return;
  open_ = false;
  while (staged_ > 0) enter();
  while (in_flight_ > 0) {  // until then the kernel may still write into the arena
    io_uring_cqe* cqe = nullptr;
    const int error = io_uring_wait_cqe(&ring_, &cqe);
    if (error == -EINTR) continue;
    if (error < 0) return;  // leak the ring rather than free memory that the kernel may write
    io_uring_cqe_seen(&ring_, cqe);
    in_flight_ -= 1;
  }
  io_uring_queue_exit(&ring_);
  if (event_ >= 0) ::close(event_);
  event_ = -1;
}

}  // namespace ring
