#include "arena/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace arena {

namespace {

int reserve(const Backing& backing) noexcept {
  const auto bytes = static_cast<off_t>(backing.head + backing.body);
  // Going over all pages of one that a predecessor has reserved would only keep its clients waiting.
  struct stat status {};
  if (::fstat(backing.fd, &status) == 0 && status.st_size == bytes && status.st_blocks * 512 >= bytes) return 0;
  if (::ftruncate(backing.fd, bytes) < 0) return -errno;
  for (;;) {
    const int error = ::posix_fallocate(backing.fd, 0, bytes);
    if (error != EINTR) return -error;
  }
}

// Maps `bytes` of `fd` from `from` on, at `to`. Zero, or a negative errno.
int map_at(std::byte* to, std::size_t bytes, int fd, std::size_t from) noexcept {
  if (bytes == 0) return 0;
  void* got =
      ::mmap(to, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(from));
  return got == MAP_FAILED ? -errno : 0;
}

int map_memory(std::byte* to, std::size_t bytes) noexcept {
  const int fd = ::memfd_create("trivet-arena", MFD_CLOEXEC);
  if (fd < 0) return -errno;
  int error = ::ftruncate(fd, static_cast<off_t>(bytes)) == 0 ? 0 : -errno;
  if (error == 0) error = map_at(to, bytes, fd, 0);
  ::close(fd);
  return error;
}

}  // namespace

int Arena::open(std::size_t bytes, const Backing* backing) noexcept {
  if (base_ != nullptr) return -EBUSY;
  if (bytes == 0) return -EINVAL;
  const std::size_t filed = backing == nullptr ? 0 : backing->head + backing->body;
  if (filed > bytes) return -EINVAL;
  if (backing != nullptr) {
    const int error = reserve(*backing);
    if (error < 0) return error;
  }
  void* whole = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (whole == MAP_FAILED) return -errno;
  auto* base = static_cast<std::byte*>(whole);
  int error = 0;
  if (backing != nullptr) {
    error = map_at(base, backing->body, backing->fd, backing->head);
    if (error == 0) error = map_at(base + backing->body, backing->head, backing->fd, 0);
  }
  if (error == 0 && filed < bytes) error = map_memory(base + filed, bytes - filed);
  if (error < 0) {
    ::munmap(whole, bytes);
    return error;
  }
  (void)::madvise(base, bytes, MADV_HUGEPAGE);  // only where the administrator allows it for shared memory
  (void)::madvise(base, bytes, MADV_DONTFORK);
  base_ = base;
  size_ = bytes;
  return 0;
}

void Arena::close() noexcept {
  if (base_ == nullptr) return;
  ::munmap(base_, size_);
  base_ = nullptr;
  size_ = 0;
}

}  // namespace arena
