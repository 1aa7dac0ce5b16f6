#include "attach/identity.h"

#include <sys/random.h>

#include <cstdio>
#include <cstring>
#include <string_view>

#include "attach/big_endian.h"
#include "attach/files.h"

namespace attach {

namespace {

constexpr std::size_t kMachineDigits = 32;
constexpr std::size_t kBootDigits = 36;

// FNV-1a. Shorter than what goes in, as the id of a machine is not to be told to others (machine-id(5)).
std::uint64_t hash(std::string_view text) noexcept {
  std::uint64_t value = 0xcbf29ce484222325;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return value;
}

AttachmentId make(const char (&kind)[9], std::uint64_t value) noexcept {
  AttachmentId id;
  std::memcpy(id.data(), kind, 8);
  store64(id.data() + 8, value);
  return id;
}

// The first line of a file when it is what is expected; otherwise empty.
std::string_view read_digits(const char* root, const char* name, std::size_t length, char (&text)[64]) noexcept {
  char path[kPathBytes];
  std::snprintf(path, sizeof path, "%s%s", root, name);
  const int found = read_line(path, text, sizeof text);
  if (found < 0 || static_cast<std::size_t>(found) != length) return {};
  return std::strspn(text, "0123456789abcdef-") == length ? std::string_view{text, length} : std::string_view{};
}

}  // namespace

AttachmentId attachment_id(const char* root) noexcept {
  char text[64];
  if (const auto machine = read_digits(root, "/etc/machine-id", kMachineDigits, text); !machine.empty())
    return make("machine:", hash(machine));
  // There is none in an initial RAM disk, or before the first boot is over.
  if (const auto boot = read_digits(root, "/proc/sys/kernel/random/boot_id", kBootDigits, text); !boot.empty())
    return make("of boot:", hash(boot));
  std::uint64_t chance = 0;
  (void)::getrandom(&chance, sizeof chance, GRND_NONBLOCK);
  return make("process:", chance);
}

}  // namespace attach
