#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "sys/sys.h"
#include "test/check.h"

namespace {

// A service manager's end of the conversation, at a path or, with '@', in the abstract namespace.
int manager(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), path.size());
  if (path[0] == '@') name.sun_path[0] = '\0';
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  CHECK(::bind(fd, reinterpret_cast<sockaddr*>(&name), length) == 0);
  return fd;
}

// Whether two descriptors are of one file.
bool same(int a, int b) {
  struct stat x {}, y {};
  return ::fstat(a, &x) == 0 && ::fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

void passes_descriptors(const std::string& suffix) {
  const int memory = sys::memory_file("test");
  CHECK(memory >= 0);
  CHECK(::write(memory, "here", 4) == 4);
  int ends[2];
  CHECK(sys::pair(ends) == 0);
  const std::vector<int> many(sys::kDescriptors, memory);
  CHECK(sys::send_descriptors(ends[0], many) == 0);
  const int two[2] = {memory, ends[0]};
  CHECK(sys::send_descriptors(ends[0], two) == 0);
  const std::vector<int> too_many(sys::kDescriptors + 1, memory);
  CHECK(sys::send_descriptors(ends[0], too_many) == -EINVAL);
  std::vector<int> got;
  CHECK(sys::receive_descriptors(ends[1], 1000, got) == 0);
  CHECK(got.size() == sys::kDescriptors);
  CHECK(sys::receive_descriptors(ends[1], 1000, got) == 0);
  CHECK(got.size() == sys::kDescriptors + 2);
  CHECK(same(got[0], memory) && same(got[sys::kDescriptors], memory));
  CHECK((::fcntl(got[0], F_GETFD) & FD_CLOEXEC) != 0);
  char text[8] = {};
  CHECK(::pread(got.front(), text, sizeof text, 0) == 4);
  CHECK(std::strcmp(text, "here") == 0);
  CHECK(sys::receive_descriptors(ends[1], 10, got) == -ETIMEDOUT);
  for (const int fd : got) ::close(fd);
  got.clear();
  ::close(ends[0]);
  CHECK(sys::receive_descriptors(ends[1], 1000, got) == -ECONNRESET);
  const int last[1] = {memory};
  CHECK(sys::send_descriptors(ends[1], last) == -EPIPE);
  ::close(ends[1]);

  // A service manager gets them, too, and says when it has come so far.
  const std::string path = "@trivet-store-" + suffix;
  const int fd = manager(path);
  const int one[1] = {memory};
  CHECK(sys::notify(path, "FDSTORE=1", one) == 0);
  CHECK(sys::notify_barrier(path, 10) == -ETIMEDOUT);
  std::vector<int> stored;
  CHECK(sys::receive_descriptors(fd, 1000, stored) == 0);
  CHECK(stored.size() == 1 && same(stored[0], memory));
  CHECK(sys::receive_descriptors(fd, 1000, stored) == 0);
  CHECK(stored.size() == 2);
  for (const int each : stored) ::close(each);
  ::close(fd);
  CHECK(sys::notify_barrier(path, 10) < 0);
  ::close(memory);
}

}  // namespace

int main() {
  const std::string suffix = std::to_string(::getpid());
  for (const std::string& path : {"/tmp/trivet-notify-" + suffix, "@trivet-notify-" + suffix}) {
    const int fd = manager(path);
    CHECK(sys::notify(path, "READY=1\nSTATUS=here") == 0);
    char text[64] = {};
    CHECK(::recv(fd, text, sizeof text, 0) == 19);
    CHECK(std::strcmp(text, "READY=1\nSTATUS=here") == 0);
    // A manager that does not read costs us an error, not our time.
    int error = 0;
    for (int i = 0; i < 10000 && error == 0; i++) error = sys::notify(path, "WATCHDOG=1");
    CHECK(error == -EAGAIN);
    ::close(fd);
    if (path[0] == '/') CHECK(::unlink(path.c_str()) == 0);
    CHECK(sys::notify(path, "READY=1") < 0);
  }
  CHECK(sys::notify("", "x") == -EINVAL);
  CHECK(sys::notify("relative", "x") == -EINVAL);
  CHECK(sys::notify(std::string(200, '/'), "x") == -ENAMETOOLONG);

  passes_descriptors(suffix);

  char path[] = "/tmp/trivet-lock-XXXXXX";
  const int first = ::mkstemp(path);
  const int second = ::open(path, O_RDWR | O_CLOEXEC);
  CHECK(sys::lock(first) == 0);
  CHECK(sys::lock(second) == -EWOULDBLOCK);
  ::close(first);
  CHECK(sys::lock(second) == 0);
  ::close(second);
  ::unlink(path);
  CHECK(sys::lock(-1) == -EBADF);

  char name[] = "sh";
  char option[] = "-c";
  char command[] = "echo here; exit 7";
  char* const words[] = {name, option, command, nullptr};
  CHECK(sys::execute("/no/such/program", words) == -ENOENT);
  CHECK(sys::execute("/", words) == -EACCES);
  int ends[2];
  CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    // As Node leaves it.
    CHECK(::dup3(ends[1], STDOUT_FILENO, O_CLOEXEC) == STDOUT_FILENO);
    ::_exit(sys::execute("/bin/sh", words));
  }
  ::close(ends[1]);
  char said[16] = {};
  CHECK(::read(ends[0], said, sizeof said) == 5 && std::strcmp(said, "here\n") == 0);
  ::close(ends[0]);
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
  return 0;
}
