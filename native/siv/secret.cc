#include "siv/secret.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace siv {

int Secret::open(std::size_t bytes) noexcept {
  if (at_ != nullptr) return -EBUSY;
  // Pages of its own, because all this is said of pages.
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t whole = (bytes + page - 1) / page * page;
  void* got = ::mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (got == MAP_FAILED) return -errno;
  (void)::madvise(got, whole, MADV_DONTDUMP);
  (void)::madvise(got, whole, MADV_DONTFORK);
  (void)::mlock(got, whole);  // refused where the limit is zero: then it is as safe as all other memory
  at_ = got;
  bytes_ = whole;
  return 0;
}

// More than the deepest call of an implementation takes.
#if defined(__has_attribute) && __has_attribute(zero_call_used_regs)
__attribute__((zero_call_used_regs("all")))
#endif
__attribute__((noinline)) void sweep_stack() noexcept {
  std::byte below[6 * 1024];
  ::explicit_bzero(below, sizeof below);
}

void Secret::close() noexcept {
  if (at_ == nullptr) return;
  ::explicit_bzero(at_, bytes_);
  ::munmap(at_, bytes_);
  at_ = nullptr;
}

}  // namespace siv
