#include "attach/protect.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#include <cerrno>
#include <cstring>

#include "attach/files.h"

namespace attach {

namespace {

// Linux 5.6; headers may be older.
constexpr int kSetIoFlusher = 57;

// Deeper than anything here goes: a stack grows page by page, and a page is memory.
constexpr std::size_t kStackBytes = 128 * 1024;

__attribute__((noinline)) void touch_stack() noexcept {
  char room[kStackBytes];
  std::memset(room, 0, sizeof room);
  asm volatile("" : : "r"(room) : "memory");
}

}  // namespace

void protect(Log& log) noexcept {
  touch_stack();
  if (::mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
    log.line(Log::Level::kWarning, "memory cannot be locked (%s): under memory pressure reconnecting may wait",
             ::strerrordesc_np(errno));
  if (::prctl(kSetIoFlusher, 1, 0, 0, 0) < 0)
    log.line(Log::Level::kWarning,
             "PR_SET_IO_FLUSHER is not permitted (%s; it needs CAP_SYS_RESOURCE): under memory pressure reconnecting may wait",
             ::strerrordesc_np(errno));
  const int error = write_line("/proc/self/oom_score_adj", "-1000");
  if (error < 0)
    log.line(Log::Level::kWarning, "the OOM score cannot be lowered (%s)", ::strerrordesc_np(-error));
}

}  // namespace attach
