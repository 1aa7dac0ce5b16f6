#include "attach/message.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include <cstring>

namespace attach {

namespace {

constexpr std::size_t aligned(std::size_t length) noexcept { return (length + 3) & ~std::size_t{3}; }

template <typename T>
bool copy_exactly(Bytes from, T& out) noexcept {
  if (from.size() != sizeof out) return false;
  std::memcpy(&out, from.data(), sizeof out);
  return true;
}

}  // namespace

MessageWriter::MessageWriter(std::span<std::uint8_t> room, std::uint16_t type, std::uint16_t flags,
                             std::uint32_t sequence, std::uint8_t command, std::uint8_t version) noexcept
    : room_(room) {
  nlmsghdr head{};
  head.nlmsg_type = type;
  head.nlmsg_flags = flags;
  head.nlmsg_seq = sequence;
  put(&head, sizeof head);
  genlmsghdr generic{};
  generic.cmd = command;
  generic.version = version;
  put(&generic, sizeof generic);
}

void MessageWriter::put(const void* from, std::size_t length) noexcept {
  if (overflowed_ || room_.size() - used_ < aligned(length)) {
    overflowed_ = true;
    return;
  }
  std::memcpy(room_.data() + used_, from, length);
  std::memset(room_.data() + used_ + length, 0, aligned(length) - length);
  used_ += aligned(length);
}

void MessageWriter::attribute(std::uint16_t type, const void* value, std::size_t length) noexcept {
  if (length > UINT16_MAX - sizeof(nlattr)) {
    overflowed_ = true;
    return;
  }
  const nlattr head{static_cast<std::uint16_t>(sizeof(nlattr) + length), type};
  put(&head, sizeof head);
  if (length > 0) put(value, length);
}

void MessageWriter::u32(std::uint16_t type, std::uint32_t value) noexcept { attribute(type, &value, sizeof value); }
void MessageWriter::u64(std::uint16_t type, std::uint64_t value) noexcept { attribute(type, &value, sizeof value); }

void MessageWriter::text(std::uint16_t type, std::string_view value) noexcept {
  char copy[256];
  if (value.size() >= sizeof copy) {
    overflowed_ = true;
    return;
  }
  std::memcpy(copy, value.data(), value.size());
  copy[value.size()] = '\0';
  attribute(type, copy, value.size() + 1);
}

std::size_t MessageWriter::open(std::uint16_t type) noexcept {
  const std::size_t at = used_;
  attribute(static_cast<std::uint16_t>(type | NLA_F_NESTED), nullptr, 0);
  return at;
}

void MessageWriter::close(std::size_t at) noexcept {
  if (overflowed_) return;
  const std::size_t length = used_ - at;
  if (length > UINT16_MAX) {
    overflowed_ = true;
    return;
  }
  const auto nested = static_cast<std::uint16_t>(length);
  std::memcpy(room_.data() + at, &nested, sizeof nested);
}

Bytes MessageWriter::finish() noexcept {
  if (overflowed_) return {};
  const auto length = static_cast<std::uint32_t>(used_);
  std::memcpy(room_.data(), &length, sizeof length);
  return room_.first(used_);
}

bool Messages::next(Message& out) noexcept {
  if (left_.empty()) return false;
  nlmsghdr head;
  if (left_.size() < sizeof head) {
    broken_ = true;
    return false;
  }
  std::memcpy(&head, left_.data(), sizeof head);
  if (head.nlmsg_len < sizeof head || head.nlmsg_len > left_.size()) {
    broken_ = true;
    return false;
  }
  out = {head.nlmsg_type, head.nlmsg_flags, head.nlmsg_seq, left_.subspan(sizeof head, head.nlmsg_len - sizeof head)};
  // The last message need not be padded.
  const std::size_t step = aligned(head.nlmsg_len);
  left_ = step < left_.size() ? left_.subspan(step) : Bytes{};
  return true;
}

bool Attribute::u8(std::uint8_t& out) const noexcept { return copy_exactly(data, out); }
bool Attribute::u16(std::uint16_t& out) const noexcept { return copy_exactly(data, out); }
bool Attribute::u32(std::uint32_t& out) const noexcept { return copy_exactly(data, out); }

std::string_view Attribute::text() const noexcept {
  const auto* chars = reinterpret_cast<const char*>(data.data());
  return data.empty() ? std::string_view{} : std::string_view{chars, ::strnlen(chars, data.size())};
}

bool Attributes::next(Attribute& out) noexcept {
  if (left_.empty()) return false;
  nlattr head;
  if (left_.size() < sizeof head) {
    broken_ = true;
    return false;
  }
  std::memcpy(&head, left_.data(), sizeof head);
  if (head.nla_len < sizeof head || head.nla_len > left_.size()) {
    broken_ = true;
    return false;
  }
  out = {static_cast<std::uint16_t>(head.nla_type & NLA_TYPE_MASK),
         left_.subspan(sizeof head, head.nla_len - sizeof head)};
  const std::size_t step = aligned(head.nla_len);
  left_ = step < left_.size() ? left_.subspan(step) : Bytes{};
  return true;
}

bool read_generic(const Message& message, Generic& out) noexcept {
  genlmsghdr head;
  if (message.body.size() < sizeof head) return false;
  std::memcpy(&head, message.body.data(), sizeof head);
  out = {head.cmd, message.body.subspan(sizeof head)};
  return true;
}

bool read_error(const Message& message, int& out) noexcept {
  if (message.body.size() < sizeof out) return false;
  std::memcpy(&out, message.body.data(), sizeof out);
  return true;
}

}  // namespace attach
