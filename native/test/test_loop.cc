#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

#include "loop/loop.h"
#include "net/net.h"
#include "plain/plain.h"
#include "ring/ring.h"
#include "test/check.h"

// The loop driven by hand, the way src/host/driver.ts drives it.
namespace {

using loop::Completion;
using loop::Request;

struct Row {
  Completion what;
  double index;
  double result;
};

class Hand {
 public:
  explicit Hand(loop::Engine& engine) { CHECK(memory.open(1 << 20, nullptr) == 0 && lp.open(memory, engine) == 0); }

  void stage(Request request, double index, double at = 0, double length = 0, double offset = 0, double tag = 0) {
    double* row = lp.requests() + staged_++ * loop::kRequestColumns;
    row[0] = static_cast<double>(request);
    row[1] = index;
    row[2] = at;
    row[3] = length;
    row[4] = offset;
    row[5] = tag;
  }
  void vector(std::size_t i, double at, double length) {
    lp.vectors()[2 * i] = at;
    lp.vectors()[2 * i + 1] = length;
  }
  // The next completion, whatever it takes.
  Row next() {
    while (at_ == rows_) {
      at_ = 0;
      const std::size_t staged = staged_;
      staged_ = 0;
      rows_ = lp.exchange(staged);
      if (rows_ > 0 || lp.more()) continue;
      pollfd watch{lp.watch_fd(), POLLIN, 0};
      const int ready = ::poll(&watch, 1, 5000);
      CHECK(ready == 1 || (ready < 0 && errno == EINTR));  // the ring may interrupt us
      rows_ = lp.turn();
    }
    const double* row = lp.completions() + at_++ * loop::kCompletionColumns;
    return {static_cast<Completion>(row[0]), row[1], row[2]};
  }
  bool quiet() {
    if (at_ != rows_) return false;
    at_ = 0;
    const std::size_t staged = staged_;
    staged_ = 0;
    rows_ = lp.exchange(staged);
    if (rows_ == 0) rows_ = lp.turn();
    return rows_ == 0;
  }
  void expect(Completion what, double index, double result) {
    const Row row = next();
    if (row.what != what || row.index != index || row.result != result)
      std::fprintf(stderr, "got %d %g %g\n", static_cast<int>(row.what), row.index, row.result);
    CHECK(row.what == what && row.index == index && row.result == result);
  }
  // Two ends of a TCP connection.
  void pair(std::uint32_t& near, std::uint32_t& far) {
    const int listener = lp.add_listener(net::listen_tcp("127.0.0.1", 0));
    CHECK(listener >= 0);
    const auto slot = static_cast<std::uint32_t>(listener);
    const std::string name = net::local_name(lp.fd_of(slot));
    near = static_cast<std::uint32_t>(lp.add_connecting(net::connect_tcp("127.0.0.1", std::atoi(name.c_str() + 10))));
    bool connected = false;
    bool accepted = false;
    while (!connected || !accepted) {
      const Row row = next();
      if (row.what == Completion::connected) {
        CHECK(row.index == near && row.result == 0);
        connected = true;
      } else {
        CHECK(row.what == Completion::accepted && row.index == slot && row.result >= 0);
        far = static_cast<std::uint32_t>(row.result);
        accepted = true;
      }
    }
    close(slot);
  }
  void close(std::uint32_t slot) {
    lp.close_slot(slot);
    lp.close_slot(slot);  // the second time is nothing
    CHECK(lp.fd_of(slot) == -1);
    expect(Completion::closed, slot, 0);
  }

  arena::Arena memory;
  loop::Loop lp;

 private:
  std::size_t staged_ = 0;
  std::size_t rows_ = 0;
  std::size_t at_ = 0;
};

int open_descriptors() {
  int count = 0;
  for (int fd = 0; fd < 1024; fd++)
    if (::fcntl(fd, F_GETFD) >= 0) count += 1;
  return count;
}

void sockets(Hand& hand) {
  std::uint32_t a = 0;
  std::uint32_t b = 0;
  hand.pair(a, b);
  std::byte* base = hand.memory.base();
  std::memcpy(base, "headpayload", 11);

  // A whole range is answered once, though it comes in pieces.
  hand.stage(Request::receive_all, b, 8192, 11);
  hand.vector(0, 0, 4);
  hand.stage(Request::send, a, 0, 1);
  hand.expect(Completion::sent, a, 4);
  CHECK(hand.quiet());
  hand.vector(0, 4, 3);
  hand.vector(1, 7, 4);
  hand.stage(Request::send, a, 0, 2);
  hand.expect(Completion::sent, a, 7);
  hand.expect(Completion::received, b, 11);
  CHECK(std::memcmp(base + 8192, "headpayload", 11) == 0);

  // Whatever comes, and then what came while nobody waited.
  hand.stage(Request::receive, b, 8192, 100);
  CHECK(hand.quiet());
  hand.vector(0, 0, 11);
  hand.stage(Request::send, a, 0, 1);
  hand.expect(Completion::sent, a, 11);
  hand.expect(Completion::received, b, 11);
  hand.stage(Request::send, a, 0, 1);
  hand.expect(Completion::sent, a, 11);
  CHECK(hand.quiet());
  hand.stage(Request::receive, b, 8192, 5);
  hand.expect(Completion::received, b, 5);
  hand.stage(Request::receive, b, 8192, 100);
  hand.expect(Completion::received, b, 6);

  // A reader that does not read: the send is answered short, the rest waits, and goes on when it reads.
  double left = 0;
  hand.vector(0, 0, 1 << 20);
  for (;;) {
    hand.stage(Request::send, a, 0, 1);
    if (hand.quiet()) break;
    const Row row = hand.next();
    CHECK(row.what == Completion::sent && row.result > 0);
    left += row.result;
  }
  bool sent = false;
  while (left > 0 || !sent) {
    hand.stage(Request::receive, b, 0, 1 << 20);
    for (bool received = false; !received;) {
      const Row row = hand.next();
      if (row.what == Completion::sent) {
        left += row.result;
        sent = true;
      } else {
        CHECK(row.what == Completion::received && row.result > 0);
        left -= row.result;
        received = true;
      }
    }
  }

  // Mistakes of the caller are answered, never carried out.
  hand.vector(0, (1 << 20) - 1, 2);
  hand.stage(Request::send, a, 0, 1);
  hand.expect(Completion::sent, a, -EFAULT);
  hand.stage(Request::send, a, 0, loop::kSendVectors + 1);
  hand.expect(Completion::sent, a, -EFAULT);
  hand.stage(Request::send, a, loop::kVectorRows, 1);
  hand.expect(Completion::sent, a, -EFAULT);
  hand.stage(Request::receive, a, (1 << 20) - 1, 2);
  hand.expect(Completion::received, a, -EFAULT);
  hand.stage(Request::receive, 4000000000.0, 0, 2);
  hand.stage(Request::receive, -5, 0, 2);
  hand.stage(static_cast<Request>(200), a);
  CHECK(hand.quiet());

  // Half a close: the other direction still works; the end is found by the next receive, and stays.
  hand.lp.shut_down(a);
  hand.stage(Request::receive, b, 0, 100);
  hand.expect(Completion::received, b, 0);
  hand.stage(Request::receive_all, b, 0, 100);
  hand.expect(Completion::received, b, 0);
  hand.vector(0, 0, 9);
  hand.stage(Request::send, b, 0, 1);
  hand.expect(Completion::sent, b, 9);
  hand.stage(Request::receive, a, 0, 100);
  hand.expect(Completion::received, a, 9);

  // Data and end in one go: first the data, then the end.
  hand.stage(Request::send, b, 0, 1);
  hand.expect(Completion::sent, b, 9);
  hand.close(b);
  hand.stage(Request::receive, a, 0, 100);
  hand.expect(Completion::received, a, 9);
  hand.stage(Request::receive, a, 0, 100);
  hand.expect(Completion::received, a, 0);
  hand.close(a);

  // A reset in the middle of a whole range.
  hand.pair(a, b);
  hand.stage(Request::receive_all, b, 0, 1000);
  hand.vector(0, 0, 10);
  hand.stage(Request::send, a, 0, 1);
  hand.expect(Completion::sent, a, 10);
  CHECK(hand.quiet());
  const linger hard{1, 0};
  CHECK(::setsockopt(hand.lp.fd_of(a), SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
  hand.lp.close_slot(a);
  for (int i = 0; i < 2; i++) {
    const Row row = hand.next();
    if (row.what == Completion::received)
      CHECK(row.index == b && row.result == -ECONNRESET);
    else
      CHECK(row.what == Completion::closed && row.index == a);
  }
  // Sending to nobody is an error and no signal; closing with a receive and a send waiting answers neither.
  hand.vector(0, 0, 10);
  hand.stage(Request::send, b, 0, 1);
  hand.expect(Completion::sent, b, -EPIPE);
  hand.close(b);
  hand.pair(a, b);
  hand.stage(Request::receive_all, a, 0, 1000);
  CHECK(hand.quiet());
  hand.close(a);
  hand.close(b);
  CHECK(hand.quiet());
}

void descriptors(Hand& hand) {
  const int before = open_descriptors();
  for (int i = 0; i < 300; i++) {
    std::uint32_t a = 0;
    std::uint32_t b = 0;
    hand.pair(a, b);
    CHECK(a < 8 && b < 8);  // slots are used again
    hand.stage(Request::receive, i % 2 == 0 ? a : b, 0, 100);
    hand.close(a);
    hand.lp.close_slot(b);
    for (;;) {
      const Row row = hand.next();
      if (row.what == Completion::closed) break;
    }
  }
  CHECK(open_descriptors() == before);

  // Out of descriptors: the listener says so once, and goes on when asked to.
  const int listener = hand.lp.add_listener(net::listen_tcp("127.0.0.1", 0));
  const auto slot = static_cast<std::uint32_t>(listener);
  const std::string name = net::local_name(hand.lp.fd_of(slot));
  const int client = net::connect_tcp("127.0.0.1", std::atoi(name.c_str() + 10));
  rlimit limit{};
  CHECK(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  rlimit none = limit;
  none.rlim_cur = static_cast<rlim_t>(client) + 1;  // the lowest descriptor that was free
  CHECK(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  hand.expect(Completion::accepted, slot, -EMFILE);
  CHECK(hand.quiet());
  CHECK(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  hand.stage(Request::accept, slot);
  const Row row = hand.next();
  CHECK(row.what == Completion::accepted && row.result >= 0);
  hand.close(static_cast<std::uint32_t>(row.result));
  hand.close(slot);
  ::close(client);
}

// A connection that is let go lives on, and not a byte of it is lost.
void detached(Hand& hand) {
  const int before = open_descriptors();
  std::uint32_t a = 0;
  std::uint32_t b = 0;
  hand.pair(a, b);
  for (std::size_t i = 0; i < 200; i++) hand.memory.base()[1000 + i] = static_cast<std::byte>(i);
  hand.stage(Request::receive_all, b, 0, 100);
  hand.vector(0, 1000, 60);
  hand.stage(Request::send, a, 0, 1);
  hand.expect(Completion::sent, a, 60);
  CHECK(hand.quiet());
  std::size_t received = 0;
  const int fd = hand.lp.detach(b, received);
  CHECK(fd >= 0 && received == 60);
  CHECK(hand.lp.detach(b, received) == -EBADF);
  hand.vector(0, 1060, 140);
  hand.stage(Request::send, a, 0, 1);
  hand.stage(Request::receive_all, b, 0, 100);  // staged before, applied after: of no effect
  bool closed = false;
  bool sent = false;
  while (!closed || !sent) {
    const Row row = hand.next();
    closed = closed || (row.what == Completion::closed && row.index == b);
    sent = sent || (row.what == Completion::sent && row.result == 140);
  }
  const int slot = hand.lp.add_stream(net::adopt_stream(fd));
  CHECK(slot >= 0);
  const auto again = static_cast<std::uint32_t>(slot);
  hand.stage(Request::receive_all, again, 60, 140);
  hand.expect(Completion::received, again, 140);
  CHECK(std::memcmp(hand.memory.base(), hand.memory.base() + 1000, 200) == 0);
  CHECK(hand.lp.detach(again, received) == fd && received == 0);
  hand.expect(Completion::closed, again, 0);
  hand.close(a);
  ::close(fd);
  CHECK(open_descriptors() == before);
}

void files(Hand& hand) {
  char path[] = "/tmp/trivet-loop-XXXXXX";
  const int fd = ::mkstemp(path);
  CHECK(fd >= 0 && ::unlink(path) == 0);
  for (std::size_t i = 0; i < hand.memory.size(); i++) hand.memory.base()[i] = static_cast<std::byte>(i >> 5);
  for (const double length : {0.0, 1.0, 4096.0, 65536.0, 65537.0, 500000.0}) {
    hand.stage(Request::file_write, fd, 0, length, 10, 77);
    hand.expect(Completion::file, 77, length);
    hand.stage(Request::file_read, fd, 1 << 19, length, 10, 78);
    hand.expect(Completion::file, 78, length);
    CHECK(std::memcmp(hand.memory.base(), hand.memory.base() + (1 << 19), static_cast<std::size_t>(length)) == 0);
  }
  hand.stage(Request::file_read, fd, 1 << 19, 100, 500000, 5);
  hand.expect(Completion::file, 5, 10);
  hand.stage(Request::file_data_sync, fd, 0, 0, 0, 6);
  hand.expect(Completion::file, 6, 0);
  hand.stage(Request::file_sync, fd, 0, 0, 0, 6);
  hand.expect(Completion::file, 6, 0);
  hand.vector(0, 5, 60000);
  hand.vector(1, 100, 60001);
  hand.stage(Request::file_write_vector, fd, 0, 2, 0, 8);
  hand.expect(Completion::file, 8, 120001);
  hand.stage(Request::file_read, fd, 1 << 19, 120001, 0, 9);
  hand.expect(Completion::file, 9, 120001);
  CHECK(std::memcmp(hand.memory.base() + 5, hand.memory.base() + (1 << 19), 60000) == 0);
  CHECK(std::memcmp(hand.memory.base() + 100, hand.memory.base() + (1 << 19) + 60000, 60001) == 0);

  hand.stage(Request::file_read, -1, 0, 100, 0, 10);
  hand.expect(Completion::file, 10, -EBADF);
  hand.stage(Request::file_read, fd, 1 << 20, 1, 0, 11);
  hand.expect(Completion::file, 11, -EFAULT);
  hand.stage(Request::file_write_vector, fd, 0, loop::kWriteVectors + 1, 0, 12);
  hand.expect(Completion::file, 12, -EFAULT);

  // A size limit makes writes short, and then refuses: the answer is the error, not the part.
  rlimit limit{};
  CHECK(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  rlimit small = limit;
  small.rlim_cur = 600000;
  CHECK(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  for (const double length : {4096.0, 300000.0}) {
    hand.stage(Request::file_write, fd, 0, length, 599000, 13);
    hand.expect(Completion::file, 13, -EFBIG);
  }
  CHECK(::setrlimit(RLIMIT_FSIZE, &limit) == 0);

  // Every operation of a full house is answered once.
  std::array<int, loop::kFiles> seen{};
  for (std::size_t i = 0; i < loop::kFiles; i++)
    hand.stage(Request::file_write, fd, 0, 100000, static_cast<double>(i), static_cast<double>(i));
  for (std::size_t i = 0; i < loop::kFiles; i++) {
    const Row row = hand.next();
    CHECK(row.what == Completion::file && row.result == 100000);
    seen[static_cast<std::size_t>(row.index)] += 1;
  }
  for (const int times : seen) CHECK(times == 1);
  hand.stage(Request::file_write, fd, 0, 100000, 0, 1);
  CHECK(hand.lp.fd_of(0) == -1);
  hand.lp.close();  // with an operation staged but never exchanged
  ::close(fd);
}

// Answers when it is told to, and says so only when it had none before.
class Oracle final : public loop::Source {
 public:
  Oracle() { CHECK(event_ >= 0); }
  ~Oracle() override { ::close(event_); }
  void answer(int count) {
    const bool was_silent = left_ == 0;
    left_ += count;
    const std::uint64_t one = 1;
    if (was_silent) CHECK(::write(event_, &one, sizeof one) == sizeof one);
  }
  std::size_t drain(std::span<loop::Done> out) noexcept override {
    std::size_t count = 0;
    for (; count < out.size() && left_ > 0; left_--) out[count++] = {next_++, -1};
    return count;
  }
  int watch_fd() const noexcept override { return event_; }

 private:
  int event_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int left_ = 0;
  double next_ = 0;
};

void source(Hand& hand, Oracle& oracle) {
  CHECK(hand.lp.attach(oracle) == 0);
  CHECK(hand.lp.attach(oracle) == -EBUSY);
  CHECK(hand.quiet());
  double expected = 0;
  // Also more at once than there are rows.
  for (const int count : {1, 1, 100, 20'000, 2}) {
    oracle.answer(count);
    for (int i = 0; i < count; i++) {
      const Row row = hand.next();
      CHECK(row.what == Completion::source && row.index == expected && row.result == -1);
      expected += 1;
    }
    CHECK(hand.quiet());
  }
}

void all(loop::Engine& engine) {
  Oracle oracle;
  Hand hand(engine);
  sockets(hand);
  descriptors(hand);
  detached(hand);
  source(hand, oracle);
  files(hand);
}

}  // namespace

int main() {
  std::signal(SIGXFSZ, SIG_IGN);
  ring::Ring ring;
  const int error = ring.open();
  if (error == 0)
    all(ring);
  else
    std::printf("without io_uring: ");
  plain::Plain plain;
  CHECK(plain.open() == 0);
  all(plain);
  return 0;
}
