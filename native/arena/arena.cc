#include "arena/arena.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace arena {

namespace {

int open_file(const char* path, std::size_t bytes) noexcept {
  const int fd = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return -errno;
  int error = 0;
  if (::flock(fd, LOCK_EX | LOCK_NB) < 0) {
    error = -errno;  // another process owns it
  } else if (::ftruncate(fd, static_cast<off_t>(bytes)) < 0) {
    error = -errno;
  } else {
    error = -::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  }
  if (error == 0) return fd;
  ::close(fd);
  return error;
}

int open_memory(std::size_t bytes) noexcept {
  const int fd = ::memfd_create("trivet-arena", MFD_CLOEXEC);
  if (fd < 0) return -errno;
  if (::ftruncate(fd, static_cast<off_t>(bytes)) == 0) return fd;
  const int error = -errno;
  ::close(fd);
  return error;
}

}  // namespace

int Arena::open(std::size_t bytes, const char* path) noexcept {
  if (base_ != nullptr) return -EBUSY;
  if (bytes == 0) return -EINVAL;
  const int fd = path == nullptr ? open_memory(bytes) : open_file(path, bytes);
  if (fd < 0) return fd;
  void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) {
    const int error = -errno;
    ::close(fd);
    return error;
  }
  (void)::madvise(base, bytes, MADV_HUGEPAGE);  // only where the administrator allows it for shared memory
  (void)::madvise(base, bytes, MADV_DONTFORK);
  base_ = static_cast<std::byte*>(base);
  size_ = bytes;
  fd_ = fd;
  return 0;
}

void Arena::close() noexcept {
  if (base_ == nullptr) return;
  ::munmap(base_, size_);
  ::close(fd_);
  base_ = nullptr;
  size_ = 0;
  fd_ = -1;
}

}  // namespace arena
