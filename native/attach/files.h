#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

// Small files of the system, read and written without allocating. `root` stands before every path: empty but in tests.
namespace attach {

inline constexpr std::size_t kPathBytes = 512;

// The first line of a small file, without its end. The length, or a negative errno.
[[nodiscard]] int read_line(const char* path, char* out, std::size_t room) noexcept;
[[nodiscard]] int write_line(const char* path, std::string_view text) noexcept;

// One nbd device in sysfs.
class DeviceFiles {
 public:
  DeviceFiles(const char* root, std::uint32_t index) noexcept;

  [[nodiscard]] std::uint32_t index() const noexcept { return index_; }
  [[nodiscard]] const char* root() const noexcept { return root_; }
  // "/dev/nbd3"
  [[nodiscard]] const char* node() const noexcept { return node_; }
  // The process that attached it, 0 when it is not attached. A negative errno when that cannot be found out now, as
  // without memory.
  [[nodiscard]] long attached_by() const noexcept;
  // Zero when it is not attached, or not there.
  [[nodiscard]] std::uint64_t size_bytes() const noexcept;
  [[nodiscard]] bool is_read_only() const noexcept;
  [[nodiscard]] std::uint32_t block_bytes() const noexcept;
  // The kernel makes one hardware queue for each.
  [[nodiscard]] bool has_several_connections() const noexcept;
  // Who it belongs to, as CONNECT said; empty when nobody said so.
  [[nodiscard]] std::string_view backend(char* out, std::size_t room) const noexcept;
  // For example "queue/read_ahead_kb".
  [[nodiscard]] int set(const char* name, std::string_view value) const noexcept;
  [[nodiscard]] long number(const char* name) const noexcept;

 private:
  void path(const char* name, char* out) const noexcept;
  const char* root_;
  std::uint32_t index_;
  char node_[32];
};

}  // namespace attach
