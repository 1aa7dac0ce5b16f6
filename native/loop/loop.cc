#include "loop/loop.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "net/net.h"

namespace loop {

namespace {

constexpr std::uint64_t kEngine = ~0ULL;
constexpr std::uint64_t kSource = kEngine - 1;
constexpr int kRounds = 4;          // most times around inside one exchange
constexpr int kAcceptsAtOnce = 64;  // a storm of connections must not keep everybody else waiting
constexpr std::size_t kSocketsAtOnce = 1024;

}  // namespace

int Loop::open(arena::Arena& arena, Engine& engine) noexcept {
  if (epoll_ >= 0) return -EBUSY;
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) return -errno;
  arena_ = &arena;
  engine_ = &engine;
  requests_.resize(kRequestRows * kRequestColumns);
  vectors_.resize(kVectorRows * 2);
  completions_.resize(kCompletionRows * kCompletionColumns + 1);
  files_.resize(kFiles);
  for (std::size_t i = kFiles; i-- > 0;) free_files_.push_back(static_cast<std::uint32_t>(i));
  return 0;
}

int Loop::attach(Source& source) noexcept {
  if (source_ != nullptr) return -EBUSY;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = kSource;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, source.watch_fd(), &event) < 0) return -errno;
  source_ = &source;
  return 0;
}

void Loop::close() noexcept {
  if (epoll_ < 0) return;
  source_ = nullptr;
  engine_->close();
  for (Socket& socket : sockets_)
    if (socket.fd >= 0) ::close(socket.fd);
  sockets_.clear();
  ::close(epoll_);
  epoll_ = -1;
}

// ---- Sockets come and go ----

int Loop::add(int fd, Phase phase) noexcept {
  if (fd < 0) return fd;
  std::uint32_t slot = 0;
  if (!free_slots_.empty()) {
    slot = free_slots_.back();
    free_slots_.pop_back();
  } else if (sockets_.size() < kSlots) {
    slot = static_cast<std::uint32_t>(sockets_.size());
    sockets_.emplace_back();
  } else {
    ::close(fd);
    return -EMFILE;
  }
  Socket& socket = sockets_[slot];
  std::unique_ptr<iovec[]> kept = std::move(socket.vectors);
  socket = Socket{};
  socket.vectors = std::move(kept);
  socket.fd = fd;
  socket.phase = phase;
  socket.writable = phase == Phase::open;  // the first attempt finds out
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  if (phase == Phase::listening) event.events = EPOLLIN | EPOLLET;
  event.data.u64 = slot;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0) {
    const int error = -errno;
    ::close(fd);
    socket = Socket{};
    free_slots_.push_back(slot);
    return error;
  }
  return static_cast<int>(slot);
}

int Loop::add_stream(int fd) noexcept { return add(fd, Phase::open); }
int Loop::add_connecting(int fd) noexcept { return add(fd, Phase::connecting); }
int Loop::add_listener(int fd) noexcept { return add(fd, Phase::listening); }

int Loop::fd_of(std::uint32_t slot) const noexcept {
  return slot < sockets_.size() && sockets_[slot].phase != Phase::closing ? sockets_[slot].fd : -1;
}

void Loop::shut_down(std::uint32_t slot) noexcept {
  const int fd = fd_of(slot);
  if (fd >= 0) (void)::shutdown(fd, SHUT_WR);
}

void Loop::close_slot(std::uint32_t slot) noexcept {
  if (fd_of(slot) < 0) return;
  Socket& socket = sockets_[slot];
  socket.phase = Phase::closing;
  socket.receiving = false;
  socket.sending = false;
  // Nothing is in flight between exchanges, as socket operations never wait. Should an engine differ,
  // this makes what it holds come back, and the descriptor lives until then.
  if (socket.in_flight > 0)
    (void)::shutdown(socket.fd, SHUT_RDWR);
  else
    finish_close(slot, socket);
}

int Loop::detach(std::uint32_t slot, std::size_t& received) noexcept {
  const int fd = fd_of(slot);
  if (fd < 0) return -EBADF;
  Socket& socket = sockets_[slot];
  if (socket.in_flight > 0) return -EBUSY;
  if (::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr) < 0) return -errno;
  received = socket.receiving ? socket.done : 0;
  socket.phase = Phase::closing;
  socket.receiving = false;
  socket.sending = false;
  socket.fd = -1;
  closed_.push_back(slot);
  return fd;
}

void Loop::finish_close(std::uint32_t slot, Socket& socket) noexcept {
  ::close(socket.fd);  // which also takes it out of the epoll set
  socket.fd = -1;
  closed_.push_back(slot);
}

// Only from the first file operation on: a process that moves bytes between sockets alone need not pay for
// being told about completions that it takes anyway.
bool Loop::watch_engine() noexcept {
  if (watching_engine_) return true;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = kEngine;
  watching_engine_ = ::epoll_ctl(epoll_, EPOLL_CTL_ADD, engine_->watch_fd(), &event) == 0;
  return watching_engine_;
}

// ---- One exchange ----

std::size_t Loop::exchange(std::size_t staged) noexcept {
  recycle();
  allow_inline();
  const std::size_t count = std::min(staged, kRequestRows);
  for (std::size_t i = 0; i < count; i++) apply(&requests_[i * kRequestColumns]);
  return run();
}

std::size_t Loop::turn() noexcept {
  look();
  recycle();
  return run();
}

void Loop::recycle() noexcept {
  rows_ = 0;
  for (const std::uint32_t slot : resting_) {
    sockets_[slot].phase = Phase::free;
    free_slots_.push_back(slot);
  }
  resting_.clear();
}

bool Loop::look() noexcept {
  std::array<epoll_event, 256> events;
  const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; i++) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if (event.data.u64 == kEngine) {
      engine_->collect();
      continue;
    }
    if (event.data.u64 == kSource) continue;  // it is asked in every turn
    const auto slot = static_cast<std::uint32_t>(event.data.u64);
    Socket& socket = sockets_[slot];
    const bool broken = (event.events & (EPOLLHUP | EPOLLERR)) != 0;
    if (broken || (event.events & EPOLLRDHUP) != 0) socket.ended = true;
    if (socket.ended || (event.events & EPOLLIN) != 0) socket.readable = true;
    if (broken || (event.events & EPOLLOUT) != 0) socket.writable = true;
    make_ready(slot, socket);
  }
  return count > 0;
}

void Loop::make_ready(std::uint32_t slot, Socket& socket) noexcept {
  if (socket.queued) return;
  const bool due = socket.phase == Phase::listening ? socket.readable
                   : socket.phase == Phase::connecting
                       ? socket.writable
                       : (socket.receiving && socket.readable) || (socket.sending && socket.writable);
  if (!due) return;
  socket.queued = true;
  ready_.push_back(slot);
}

std::size_t Loop::run() noexcept {
  std::array<Answer, 64> answers;
  for (int round = 0; round < kRounds; round++) {
    while (!closed_.empty() && room() > kSocketsAtOnce * 2) {
      const std::uint32_t slot = closed_.back();
      closed_.pop_back();
      resting_.push_back(slot);
      emit(Completion::closed, slot, 0);
    }
    issue();
    continued_ = false;
    engine_->submit();
    for (;;) {
      const std::size_t most = std::min(answers.size(), room());
      if (most == 0) break;
      const std::size_t count = engine_->drain(std::span(answers.data(), most));
      for (std::size_t i = 0; i < count; i++) answer(answers[i]);
      if (count < most) break;
    }
    if (source_ != nullptr) take_from_source();
    if (ready_.empty() && closed_.empty() && !continued_) break;
  }
  more_ = !ready_.empty() || !closed_.empty() || continued_ || room() == 0 || engine_->rest();
  completions_[kCompletionRows * kCompletionColumns] = more_ ? 1 : 0;
  return rows_;
}

void Loop::take_from_source() noexcept {
  std::array<Done, 64> done;
  for (;;) {
    const std::size_t most = std::min(done.size(), room());
    const std::size_t count = source_->drain(std::span(done.data(), most));
    for (std::size_t i = 0; i < count; i++) emit(Completion::source, done[i].tag, done[i].result);
    if (count < most || most == 0) return;
  }
}

void Loop::issue() noexcept {
  std::size_t count = std::min(ready_.size(), kSocketsAtOnce);
  // Each socket may answer twice, a listener many times; rows already promised are never exceeded.
  while (count-- > 0 && room() > 2 * kSocketsAtOnce + kAcceptsAtOnce) {
    const std::uint32_t slot = ready_.front();
    ready_.pop_front();
    issue_slot(slot);
  }
}

void Loop::issue_slot(std::uint32_t slot) noexcept {
  Socket& socket = sockets_[slot];
  socket.queued = false;
  switch (socket.phase) {
    case Phase::free:
    case Phase::closing:
      return;
    case Phase::listening:
      accept_from(slot);
      return;
    case Phase::connecting: {
      const int error = net::connect_error(socket.fd);
      socket.phase = Phase::open;
      emit(Completion::connected, slot, error);
      return;
    }
    case Phase::open:
      break;
  }
  // Cleared before the call, set again by what it finds or by an edge that comes after it.
  if (socket.receiving && socket.readable) {
    socket.readable = false;
    socket.in_flight += 1;
    engine_->receive(slot, socket.fd, socket.at, socket.left);
  }
  if (socket.sending && socket.writable) {
    socket.writable = false;
    socket.in_flight += 1;
    engine_->send(slot, socket.fd, &socket.message);
  }
}

void Loop::accept_from(std::uint32_t slot) noexcept {
  const int listener = sockets_[slot].fd;
  for (int i = 0; i < kAcceptsAtOnce; i++) {
    const int fd = net::accept(listener);
    if (fd == -EAGAIN) {
      sockets_[slot].readable = false;
      return;
    }
    const int added = add_stream(fd);  // passes an error of accept on
    emit(Completion::accepted, slot, added);
    if (added < 0) {
      sockets_[slot].readable = false;  // until JavaScript has waited a little and asks again
      return;
    }
  }
  make_ready(slot, sockets_[slot]);
}

// ---- Requests ----

void Loop::apply(const double* row) noexcept {
  const auto request = static_cast<Request>(index_of(row[0]));
  switch (request) {
    case Request::receive:
      return apply_receive(row, false);
    case Request::receive_all:
      return apply_receive(row, true);
    case Request::send:
      return apply_send(row);
    case Request::accept: {
      const std::uint32_t slot = index_of(row[1]);
      if (fd_of(slot) < 0 || sockets_[slot].phase != Phase::listening) return;
      sockets_[slot].readable = true;
      return make_ready(slot, sockets_[slot]);
    }
    case Request::file_read:
    case Request::file_write:
    case Request::file_write_vector:
    case Request::file_sync:
    case Request::file_data_sync:
      return apply_file(request, row);
  }
}

void Loop::apply_receive(const double* row, bool whole) noexcept {
  const std::uint32_t slot = index_of(row[1]);
  if (fd_of(slot) < 0) return;  // closed since: its `closed` row says so
  Socket& socket = sockets_[slot];
  socket.at = arena_->range(row[2], row[3]);
  if (socket.at == nullptr || socket.receiving) return emit(Completion::received, slot, -EFAULT);
  socket.left = static_cast<std::size_t>(row[3]);
  socket.done = 0;
  socket.whole = whole;
  socket.receiving = true;
  make_ready(slot, socket);
}

void Loop::apply_send(const double* row) noexcept {
  const std::uint32_t slot = index_of(row[1]);
  if (fd_of(slot) < 0) return;
  Socket& socket = sockets_[slot];
  const std::size_t first = index_of(row[2]);
  const std::size_t count = index_of(row[3]);
  if (socket.sending || count == 0 || count > kSendVectors || first + count > kVectorRows)
    return emit(Completion::sent, slot, -EFAULT);
  if (socket.vectors == nullptr) socket.vectors = std::make_unique<iovec[]>(kSendVectors);
  socket.asked = 0;
  for (std::size_t i = 0; i < count; i++) {
    const double* vector = &vectors_[2 * (first + i)];
    std::byte* at = arena_->range(vector[0], vector[1]);
    if (at == nullptr) return emit(Completion::sent, slot, -EFAULT);
    socket.vectors[i] = {at, static_cast<std::size_t>(vector[1])};
    socket.asked += socket.vectors[i].iov_len;
  }
  socket.message = {};
  socket.message.msg_iov = socket.vectors.get();
  socket.message.msg_iovlen = count;
  socket.sending = true;
  make_ready(slot, socket);
}

// ---- Answers ----

void Loop::answer(const Answer& answer) noexcept {
  if (answer.kind == Kind::file) return answer_file(answer.index, answer.result);
  Socket& socket = sockets_[answer.index];
  socket.in_flight -= 1;
  if (socket.phase == Phase::closing) {
    if (socket.in_flight == 0) finish_close(answer.index, socket);
    return;
  }
  if (answer.kind == Kind::receive)
    answer_receive(answer.index, socket, answer.result);
  else
    answer_send(answer.index, socket, answer.result);
}

void Loop::answer_receive(std::uint32_t slot, Socket& socket, std::int32_t result) noexcept {
  if (result > 0) {
    const auto count = static_cast<std::size_t>(result);
    // A short count means that the queue was empty; whatever comes later makes an edge of its own.
    if (count == socket.left || socket.ended) socket.readable = true;
    socket.at += count;
    socket.left -= count;
    socket.done += count;
    if (socket.whole && socket.left > 0) return make_ready(slot, socket);
    socket.receiving = false;
    return emit(Completion::received, slot, static_cast<double>(socket.done));
  }
  if (result == -EAGAIN) return make_ready(slot, socket);  // due again only if an edge came since
  if (result == -EINTR) {
    socket.readable = true;
    return make_ready(slot, socket);
  }
  socket.receiving = false;
  socket.readable = true;  // an end or an error stays
  emit(Completion::received, slot, result);
}

void Loop::answer_send(std::uint32_t slot, Socket& socket, std::int32_t result) noexcept {
  if (result == -EAGAIN) return make_ready(slot, socket);
  if (result == -EINTR) {
    socket.writable = true;
    return make_ready(slot, socket);
  }
  // After a short count the buffer is full, and room makes an edge (epoll(7), question 9).
  if (result < 0 || static_cast<std::size_t>(result) == socket.asked) socket.writable = true;
  socket.sending = false;
  emit(Completion::sent, slot, result);
}

void Loop::emit(Completion what, double index, double result) noexcept {
  if (rows_ == kCompletionRows) __builtin_trap();  // room is made sure of before anything is issued
  double* row = &completions_[rows_ * kCompletionColumns];
  row[0] = static_cast<double>(what);
  row[1] = index;
  row[2] = result;
  rows_ += 1;
}

}  // namespace loop
