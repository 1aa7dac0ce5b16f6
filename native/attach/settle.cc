#include "attach/settle.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "attach/time.h"

namespace attach {

namespace {

constexpr std::int64_t kUdevMs = 10'000;

void sleep_ms(int ms) noexcept { (void)::poll(nullptr, 0, ms); }

bool exists(const char* root, const char* path) noexcept {
  char full[kPathBytes];
  std::snprintf(full, sizeof full, "%s%s", root, path);
  return ::access(full, F_OK) == 0;
}

// Never more than the hardware limit that the kernel shows.
void tune(const DeviceFiles& device, const SettleTerms& terms) noexcept {
  char text[32];
  if (terms.max_request_kib > 0) {
    const long most = device.number("queue/max_hw_sectors_kb");
    const long wanted = most > 0 ? std::min<long>(most, terms.max_request_kib) : terms.max_request_kib;
    std::snprintf(text, sizeof text, "%ld", wanted);
    (void)device.set("queue/max_sectors_kb", text);
  }
  if (terms.read_ahead_kib > 0) {
    std::snprintf(text, sizeof text, "%u", terms.read_ahead_kib);
    (void)device.set("queue/read_ahead_kb", text);
  }
}

}  // namespace

bool wait_for_udev(const char* root, std::int64_t deadline_ms) noexcept {
  while (exists(root, "/run/udev/control") && exists(root, "/run/udev/queue")) {
    if (now_ms() >= deadline_ms) return false;
    sleep_ms(20);
  }
  return true;
}

Settling::~Settling() {
  if (fd_ >= 0) ::close(fd_);
}

int Settling::start() noexcept {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return -errno;
  const pid_t pid = ::fork();
  if (pid < 0) {
    const int error = -errno;
    ::close(ends[0]);
    ::close(ends[1]);
    return error;
  }
  if (pid == 0) child(ends[1]);
  ::close(ends[1]);
  fd_ = ends[0];
  child_ = pid;
  return 0;
}

// Says "+" when all is well, or what went wrong.
void Settling::child(int out) noexcept {
  sigset_t none;
  ::sigemptyset(&none);
  (void)::sigprocmask(SIG_SETMASK, &none, nullptr);
  // Not the sockets: as long as anybody has one, its other end does not hear that it was closed.
  (void)::dup2(out, 3);
  (void)::syscall(SYS_close_range, 4U, ~0U, 0U);
  out = 3;
  char text[256];
  const auto give_up = [&](const char* what, int error) {
    const int length = error == 0 ? std::snprintf(text, sizeof text, "%s", what)
                                  : std::snprintf(text, sizeof text, "%s (%s)", what, ::strerrordesc_np(error));
    if (::write(out, text, static_cast<std::size_t>(length)) < 0) ::_exit(2);
    ::_exit(1);
  };
  const std::int64_t deadline = now_ms() + terms_.patience_ms;
  while (device_.size_bytes() != terms_.size_bytes / 512 * 512) {
    if (now_ms() >= deadline) give_up("the kernel does not show the device's size", 0);
    sleep_ms(10);
  }
  tune(device_, terms_);
  char node[kPathBytes];
  std::snprintf(node, sizeof node, "%s%s", device_.root(), device_.node());
  int fd;
  // The node itself comes by devtmpfs or by udev.
  while ((fd = ::open(node, O_RDONLY | O_CLOEXEC)) < 0) {
    if (now_ms() >= deadline) give_up("the device cannot be opened", errno);
    sleep_ms(10);
  }
  char block[4096];
  if (::pread(fd, block, sizeof block, 0) < 0) give_up("the device cannot be read", errno);
  ::close(fd);
  // Now everything that rules may look at is there.
  (void)device_.set("uevent", "change");
  sleep_ms(20);
  (void)wait_for_udev(device_.root(), now_ms() + kUdevMs);
  ::_exit(::write(out, "+", 1) == 1 ? 0 : 2);
}

bool Settling::ready() noexcept {
  char problem[256];
  const ssize_t length = ::read(fd_, problem, sizeof problem - 1);
  if (length < 0 && errno == EINTR) return true;
  ::close(fd_);
  fd_ = -1;
  (void)::waitpid(child_, nullptr, 0);
  if (length <= 0) return settled("the child that looks at the device was lost");
  problem[length] = '\0';
  return settled(problem[0] == '+' ? nullptr : problem);
}

}  // namespace attach
