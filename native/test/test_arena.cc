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
  CHECK(memory.open(0, nullptr) < 0);
  CHECK(memory.open(1 << 20, nullptr) == 0);
  CHECK(memory.open(1 << 20, nullptr) < 0);
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
  CHECK(::close(::mkstemp(path)) == 0);
  CHECK(memory.open(1 << 16, path) == 0);
  arena::Arena second;
  CHECK(second.open(1 << 16, path) < 0);  // locked by the first
  std::memcpy(memory.base() + 100, "kept", 4);
  struct stat status {};
  CHECK(::stat(path, &status) == 0 && status.st_size == 1 << 16);
  CHECK(status.st_blocks * 512 >= 1 << 16);  // reserved
  memory.close();
  CHECK(second.open(1 << 16, path) == 0);
  CHECK(std::memcmp(second.base() + 100, "kept", 4) == 0);
  second.close();
  CHECK(::unlink(path) == 0);
  CHECK(second.open(1 << 16, "/dev/null/arena") == -ENOTDIR);
  return 0;
}
