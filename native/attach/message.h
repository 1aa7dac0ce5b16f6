#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

// Netlink messages as bytes (uapi: linux/netlink.h, linux/genetlink.h). Nothing here knows what they mean, nothing
// allocates, and no length found in a message is believed before it was compared with what is there.
namespace attach {

using Bytes = std::span<const std::uint8_t>;

// One generic netlink request, written into memory of the caller. What does not fit makes `finish` empty.
class MessageWriter {
 public:
  MessageWriter(std::span<std::uint8_t> room, std::uint16_t type, std::uint16_t flags, std::uint32_t sequence,
                std::uint8_t command, std::uint8_t version) noexcept;

  void u32(std::uint16_t attribute, std::uint32_t value) noexcept;
  void u64(std::uint16_t attribute, std::uint64_t value) noexcept;
  // With the NUL that the kernel's string attributes end in.
  void text(std::uint16_t attribute, std::string_view value) noexcept;
  // What is written until `close` with the answer of `open` lies in the attribute.
  [[nodiscard]] std::size_t open(std::uint16_t attribute) noexcept;
  void close(std::size_t at) noexcept;

  [[nodiscard]] Bytes finish() noexcept;

 private:
  void put(const void* from, std::size_t length) noexcept;
  void attribute(std::uint16_t type, const void* value, std::size_t length) noexcept;
  std::span<std::uint8_t> room_;
  std::size_t used_ = 0;
  bool overflowed_ = false;
};

struct Message {
  std::uint16_t type = 0;
  std::uint16_t flags = 0;
  std::uint32_t sequence = 0;
  // Behind the netlink header.
  Bytes body;
};

// The messages of one datagram. After `next` said no, `is_broken` tells whether the rest makes no sense.
class Messages {
 public:
  explicit Messages(Bytes datagram) noexcept : left_(datagram) {}
  [[nodiscard]] bool next(Message& out) noexcept;
  [[nodiscard]] bool is_broken() const noexcept { return broken_; }

 private:
  Bytes left_;
  bool broken_ = false;
};

struct Attribute {
  // Without the flags for nesting and byte order.
  std::uint16_t type = 0;
  Bytes data;

  // False when the length is another.
  [[nodiscard]] bool u8(std::uint8_t& out) const noexcept;
  [[nodiscard]] bool u16(std::uint16_t& out) const noexcept;
  [[nodiscard]] bool u32(std::uint32_t& out) const noexcept;
  // Up to the first NUL.
  [[nodiscard]] std::string_view text() const noexcept;
};

// Attributes one after the other: of a message, or nested in one.
class Attributes {
 public:
  explicit Attributes(Bytes data) noexcept : left_(data) {}
  [[nodiscard]] bool next(Attribute& out) noexcept;
  [[nodiscard]] bool is_broken() const noexcept { return broken_; }

 private:
  Bytes left_;
  bool broken_ = false;
};

// A generic netlink message: command, and the attributes behind it. False when it is too short for its header.
struct Generic {
  std::uint8_t command = 0;
  Bytes attributes;
};
[[nodiscard]] bool read_generic(const Message& message, Generic& out) noexcept;

// NLMSG_ERROR (zero is an acknowledgement) and NLMSG_DONE carry an errno. False when it is cut off.
[[nodiscard]] bool read_error(const Message& message, int& out) noexcept;

}  // namespace attach
