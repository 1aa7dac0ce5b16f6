#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>

#include "arena/arena.h"
#include "test/check.h"

// Mapping, bounds of ranges that come from JavaScript, files that outlive the mapping, one owner at a time.
int main() {
  arena::Arena memory;
  CHECK(memory.open(0) < 0);
  CHECK(memory.open(1 << 20) == 0);
  CHECK(memory.open(1 << 20) < 0);
  CHECK(memory.size() == 1 << 20);
  std::memset(memory.base(), 0xab, memory.size());

  const double size = 1 << 20;
  CHECK(memory.range(0, size) == memory.base());
  CHECK(memory.range(size, 0) == memory.base() + memory.size());
  CHECK(memory.range(4096, 1) == memory.base() + 4096);
  CHECK(memory.range(size, 1) == nullptr);
  CHECK(memory.range(1, size) == nullptr);
  CHECK(memory.range(-1, 1) == nullptr);
  CHECK(memory.range(0, -1) == nullptr);
  CHECK(memory.range(std::nan(""), 1) == nullptr);
  CHECK(memory.range(0, std::nan("")) == nullptr);
  CHECK(memory.range(1e300, 1e300) == nullptr);
  CHECK(memory.range(0, std::numeric_limits<double>::infinity()) == nullptr);
  memory.close();
  memory.close();
  CHECK(memory.range(0, 1) == nullptr);

  char path[] = "/tmp/trivet-arena-XXXXXX";
  const int file = ::mkstemp(path);
  CHECK(file >= 0);
  constexpr std::size_t kPage = 4096;
  const arena::Backing backing{file, 2 * kPage, 4 * kPage};
  CHECK(memory.open(5 * kPage, &backing) == -EINVAL);  // smaller than its backing
  CHECK(memory.open(8 * kPage, &backing) == 0);
  struct stat status {};
  CHECK(::stat(path, &status) == 0 && status.st_size == 6 * kPage);
  CHECK(status.st_blocks * 512 >= status.st_size);  // reserved
  // In the mapping: body, head, and then what is nobody's but ours.
  std::memcpy(memory.base() + 100, "body", 4);
  std::memcpy(memory.base() + 4 * kPage + 100, "head", 4);
  std::memset(memory.base() + 6 * kPage, 0xab, 2 * kPage);
  memory.close();
  char read[4];
  CHECK(::pread(file, read, 4, 100) == 4 && std::memcmp(read, "head", 4) == 0);
  CHECK(::pread(file, read, 4, 2 * kPage + 100) == 4 && std::memcmp(read, "body", 4) == 0);
  arena::Arena second;
  CHECK(second.open(6 * kPage, &backing) == 0);
  CHECK(std::memcmp(second.base() + 100, "body", 4) == 0);
  second.close();
  const arena::Backing none{-1, 0, kPage};
  CHECK(second.open(kPage, &none) == -EBADF);
  CHECK(::close(file) == 0 && ::unlink(path) == 0);
  return 0;
}
