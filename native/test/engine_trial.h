#pragma once
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "loop/engine.h"
#include "test/check.h"

// What every engine must do, whatever it is made of.

// Waits as the loop does: edge by edge.
class Watch {
 public:
  explicit Watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    CHECK(epoll_ >= 0 && ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0);
  }
  ~Watch() { ::close(epoll_); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  void wait() const {
    epoll_event event{};
    const int ready = ::epoll_wait(epoll_, &event, 1, 5000);
    CHECK(ready == 1 || (ready < 0 && errno == EINTR));  // nobody waits in vain
  }

 private:
  int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
};

// Answers of at least `count` operations, waiting where the engine says so.
inline std::vector<loop::Answer> collect(loop::Engine& engine, const Watch& watch, std::size_t count) {
  std::vector<loop::Answer> all;
  for (int tries = 0; all.size() < count; tries++) {
    CHECK(tries < 1000);
    engine.submit();
    engine.collect();
    std::array<loop::Answer, 8> some;
    for (;;) {
      const std::size_t got = engine.drain(some);
      all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(got));
      if (got < some.size()) break;
    }
    if (all.size() >= count || engine.rest()) continue;
    watch.wait();
  }
  return all;
}

inline void try_sockets(loop::Engine& engine) {
  int ends[2];
  CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  std::array<std::byte, 64> memory{};
  engine.receive(1, ends[0], memory.data(), memory.size());
  engine.submit();  // a blocking socket, and yet the answer is there
  std::array<loop::Answer, 8> answers;
  CHECK(engine.drain(answers) == 1);
  CHECK(answers[0].kind == loop::Kind::receive && answers[0].index == 1 && answers[0].result == -EAGAIN);

  char hello[] = "hello";
  char world[] = " world";
  iovec vectors[2] = {{hello, 5}, {world, 6}};
  msghdr message{};
  message.msg_iov = vectors;
  message.msg_iovlen = 2;
  engine.send(2, ends[1], &message);
  engine.submit();
  CHECK(engine.drain(answers) == 1 && answers[0].kind == loop::Kind::send && answers[0].result == 11);

  // Several at once, more than are carried out without a ring.
  int others[2];
  CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, others) == 0);
  engine.receive(3, ends[0], memory.data(), 5);
  engine.send(4, others[1], &message);
  engine.receive(5, -1, memory.data(), 5);
  engine.send(6, ends[1], &message);
  engine.submit();
  std::size_t count = 0;
  while (count < 4) {
    const std::size_t got = engine.drain(std::span(answers.data() + count, answers.size() - count));
    CHECK(got > 0);
    count += got;
  }
  for (std::size_t i = 0; i < count; i++) {
    if (answers[i].index == 3) CHECK(answers[i].result == 5);
    if (answers[i].index == 4 || answers[i].index == 6) CHECK(answers[i].result == 11);
    if (answers[i].index == 5) CHECK(answers[i].result == -EBADF);
  }
  CHECK(std::memcmp(memory.data(), "hello", 5) == 0);

  CHECK(::recv(ends[0], memory.data(), 64, MSG_DONTWAIT) > 0);  // closing over unread data would be a reset
  CHECK(::recv(others[0], memory.data(), 64, MSG_DONTWAIT) > 0);
  ::close(ends[0]);
  ::close(others[0]);
  engine.send(7, ends[1], &message);  // no signal
  engine.receive(8, others[1], memory.data(), 64);
  engine.submit();
  CHECK(engine.drain(answers) == 2);
  for (std::size_t i = 0; i < 2; i++) CHECK(answers[i].result == (answers[i].index == 7 ? -EPIPE : 0));
  ::close(ends[1]);
  ::close(others[1]);
}

inline void try_files(loop::Engine& engine) {
  char path[] = "/tmp/trivet-engine-XXXXXX";
  const int fd = ::mkstemp(path);
  CHECK(fd >= 0 && ::unlink(path) == 0);
  const Watch watch(engine.watch_fd());
  constexpr std::size_t count = 200;
  std::vector<std::byte> memory(count * 512);
  for (std::size_t i = 0; i < memory.size(); i++) memory[i] = static_cast<std::byte>(i * 7 >> 2);
  for (std::uint32_t i = 0; i < count; i++)
    engine.file(i, {loop::FileCall::write, false, fd, memory.data() + 512 * i, 512, 512 * i, nullptr, 0});
  std::vector<int> seen(count);
  for (const loop::Answer& answer : collect(engine, watch, count)) {
    CHECK(answer.kind == loop::Kind::file && answer.result == 512);
    seen[answer.index] += 1;
  }
  for (const int times : seen) CHECK(times == 1);

  iovec vectors[2] = {{memory.data(), 3}, {memory.data() + 1000, 4}};
  engine.file(0, {loop::FileCall::write_vector, false, fd, nullptr, 7, 50, vectors, 2});
  CHECK(collect(engine, watch, 1)[0].result == 7);
  engine.file(1, {loop::FileCall::data_sync, false, fd, nullptr, 0, 0, nullptr, 0});
  engine.file(2, {loop::FileCall::sync, true, fd, nullptr, 0, 0, nullptr, 0});
  for (const loop::Answer& answer : collect(engine, watch, 2)) CHECK(answer.result == 0);
  std::vector<std::byte> back(memory.size() + 100);
  engine.file(3, {loop::FileCall::read, false, fd, back.data(), back.size(), 0, nullptr, 0});
  CHECK(collect(engine, watch, 1)[0].result == static_cast<std::int32_t>(memory.size()));
  std::memcpy(memory.data() + 50, memory.data(), 3);
  std::memcpy(memory.data() + 53, memory.data() + 1000, 4);
  CHECK(std::memcmp(back.data(), memory.data(), memory.size()) == 0);
  engine.file(4, {loop::FileCall::read, false, -1, back.data(), 1, 0, nullptr, 0});
  CHECK(collect(engine, watch, 1)[0].result == -EBADF);

  // Closed with operations under way: it waits for them, and the memory is still there for them.
  for (std::uint32_t i = 0; i < count; i++)
    engine.file(i, {loop::FileCall::write, true, fd, memory.data(), memory.size(), 0, nullptr, 0});
  engine.submit();
  engine.close();
  engine.close();
  ::close(fd);
}
