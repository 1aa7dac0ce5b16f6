#include "attach/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace attach {

int read_line(const char* path, char* out, std::size_t room) noexcept {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t length;
  do length = ::read(fd, out, room - 1);
  while (length < 0 && errno == EINTR);
  const int error = -errno;
  ::close(fd);
  if (length < 0) return error;
  out[length] = '\0';
  out[std::strcspn(out, "\n")] = '\0';
  return static_cast<int>(std::strlen(out));
}

int write_line(const char* path, std::string_view text) noexcept {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t length;
  do length = ::write(fd, text.data(), text.size());
  while (length < 0 && errno == EINTR);
  const int error = length < 0 ? -errno : 0;
  ::close(fd);
  return error;
}

DeviceFiles::DeviceFiles(const char* root, std::uint32_t index) noexcept : root_(root), index_(index) {
  std::snprintf(node_, sizeof node_, "/dev/nbd%u", index);
}

void DeviceFiles::path(const char* name, char* out) const noexcept {
  std::snprintf(out, kPathBytes, "%s/sys/block/nbd%u/%s", root_, index_, name);
}

long DeviceFiles::number(const char* name) const noexcept {
  char file[kPathBytes];
  char text[64];
  path(name, file);
  const int length = read_line(file, text, sizeof text);
  return length < 0 ? length : std::strtol(text, nullptr, 10);
}

long DeviceFiles::attached_by() const noexcept {
  const long pid = number("pid");
  return pid == -ENOENT || pid == -ENODEV ? 0 : pid;
}

std::uint64_t DeviceFiles::size_bytes() const noexcept {
  const long sectors = number("size");
  return sectors < 0 ? 0 : static_cast<std::uint64_t>(sectors) * 512;
}

bool DeviceFiles::is_read_only() const noexcept { return number("ro") == 1; }

std::uint32_t DeviceFiles::block_bytes() const noexcept {
  const long bytes = number("queue/logical_block_size");
  return bytes < 0 ? 0 : static_cast<std::uint32_t>(bytes);
}

bool DeviceFiles::has_several_connections() const noexcept {
  char file[kPathBytes];
  path("mq/1", file);
  return ::access(file, F_OK) == 0;
}

std::string_view DeviceFiles::backend(char* out, std::size_t room) const noexcept {
  char file[kPathBytes];
  path("backend", file);
  const int length = read_line(file, out, room);
  return length <= 0 ? std::string_view{} : std::string_view{out, static_cast<std::size_t>(length)};
}

int DeviceFiles::set(const char* name, std::string_view value) const noexcept {
  char file[kPathBytes];
  path(name, file);
  return write_line(file, value);
}

}  // namespace attach
