#pragma once
#include <cstdarg>

namespace attach {

// Lines for people, one call each, that never wait and never allocate: whoever reads them may itself wait for the
// device.
class Log {
 public:
  enum class Level : int { kError = 3, kWarning = 4, kInfo = 6 };
  // Takes no descriptor of its own. `is_kernel`: it is /dev/kmsg, which wants a level before each line.
  Log(int fd, bool is_kernel) noexcept : fd_(fd), is_kernel_(is_kernel) {}

  // "nbd3", before every line from now on; the text stays the caller's.
  void about(const char* subject) noexcept { subject_ = subject; }
  void line(Level level, const char* format, ...) noexcept __attribute__((format(printf, 3, 4)));

 private:
  int fd_;
  bool is_kernel_;
  const char* subject_ = nullptr;
};

}  // namespace attach
