#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "attach/link.h"

// The netlink family `nbd` (uapi: linux/nbd-netlink.h): what is said to the kernel's driver, and what it says.
namespace attach {

// The kernel's device numbers are at most 20 bits.
inline constexpr std::uint32_t kIndexMax = 0xfffff;

struct Family {
  std::uint16_t id = 0;
  // Of LINK_DEAD.
  std::uint32_t group = 0;
};

struct ConnectTerms {
  // Absent: the kernel's choice.
  std::optional<std::uint32_t> index;
  std::uint64_t size_bytes = 0;
  std::uint32_t block_bytes = 0;
  std::uint16_t flags = 0;
  std::uint64_t timeout_seconds = 0;
  std::uint64_t dead_seconds = 0;
  // Who the device belongs to; the kernel shows it in sysfs and wants to hear it with each RECONFIGURE. Empty: none.
  std::string_view backend;
  int socket = -1;
};

struct ReconfigureTerms {
  std::uint32_t index = 0;
  // Neither: as they are.
  std::optional<std::uint64_t> timeout_seconds;
  std::optional<std::uint64_t> dead_seconds;
  std::string_view backend;
  // −1: only the times change.
  int socket = -1;
};

struct DeviceStatus {
  std::uint32_t index = 0;
  // Attached, or merely open.
  bool is_connected = false;
};

class Nbd {
 public:
  explicit Nbd(Link& link) noexcept : link_(link) {}

  // Asks for the family's numbers. −ENOENT: the module is not loaded.
  [[nodiscard]] int find() noexcept;
  [[nodiscard]] const Family& family() const noexcept { return family_; }

  [[nodiscard]] int connect(const ConnectTerms& terms, std::uint32_t& index) noexcept;
  [[nodiscard]] int disconnect(std::uint32_t index) noexcept;
  // A socket fills a slot whose connection is dead; when there is none the kernel says yes and drops it.
  [[nodiscard]] int reconfigure(const ReconfigureTerms& terms) noexcept;

  class Lister {
   public:
    virtual void device(const DeviceStatus& status) noexcept = 0;

   protected:
    ~Lister() = default;
  };
  // Absent: all devices.
  [[nodiscard]] int status(std::optional<std::uint32_t> index, Lister& lister) noexcept;

 private:
  Link& link_;
  Family family_;
};

// The answers, as bytes; each is false when it makes no sense.
[[nodiscard]] bool read_family(const Message& message, Family& out) noexcept;
[[nodiscard]] bool read_index(const Message& message, std::uint16_t family, std::uint8_t command,
                              std::uint32_t& out) noexcept;
[[nodiscard]] bool read_status(const Message& message, std::uint16_t family, Nbd::Lister& lister) noexcept;

// The requests, as bytes; empty when they do not fit.
[[nodiscard]] Bytes write_find(std::span<std::uint8_t> room, std::uint32_t sequence) noexcept;
[[nodiscard]] Bytes write_connect(std::span<std::uint8_t> room, std::uint16_t family, std::uint32_t sequence,
                                  const ConnectTerms& terms) noexcept;
[[nodiscard]] Bytes write_disconnect(std::span<std::uint8_t> room, std::uint16_t family, std::uint32_t sequence,
                                     std::uint32_t index) noexcept;
[[nodiscard]] Bytes write_reconfigure(std::span<std::uint8_t> room, std::uint16_t family, std::uint32_t sequence,
                                      const ReconfigureTerms& terms) noexcept;
[[nodiscard]] Bytes write_status(std::span<std::uint8_t> room, std::uint16_t family, std::uint32_t sequence,
                                 std::optional<std::uint32_t> index) noexcept;

}  // namespace attach
