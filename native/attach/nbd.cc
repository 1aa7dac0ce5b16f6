#include "attach/nbd.h"

#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>

#include <array>
#include <cerrno>

namespace attach {

namespace {

// Of 5.14; headers may be older. An older kernel ignores it.
constexpr std::uint16_t kBackendIdentifier = 10;
constexpr std::uint16_t kFlags = NLM_F_REQUEST | NLM_F_ACK;
using Room = std::array<std::uint8_t, 1024>;

void put_socket(MessageWriter& writer, int socket) noexcept {
  const std::size_t list = writer.open(NBD_ATTR_SOCKETS);
  const std::size_t item = writer.open(NBD_SOCK_ITEM);
  writer.u32(NBD_SOCK_FD, static_cast<std::uint32_t>(socket));
  writer.close(item);
  writer.close(list);
}

// The id of the multicast group, when this is the one.
void read_group(Bytes data, std::uint32_t& group) noexcept {
  Attributes parts(data);
  Attribute part;
  std::string_view name;
  std::uint32_t id = 0;
  while (parts.next(part)) {
    if (part.type == CTRL_ATTR_MCAST_GRP_NAME) name = part.text();
    if (part.type == CTRL_ATTR_MCAST_GRP_ID && !part.u32(id)) return;
  }
  if (!parts.is_broken() && name == NBD_GENL_MCAST_GROUP_NAME) group = id;
}

struct FamilyTaker final : Link::Taker {
  Family family;
  bool is_good = false;
  void take(const Message& message) noexcept override { is_good = read_family(message, family) || is_good; }
};

struct IndexTaker final : Link::Taker {
  std::uint16_t family = 0;
  std::uint32_t index = 0;
  bool is_good = false;
  void take(const Message& message) noexcept override {
    is_good = read_index(message, family, NBD_CMD_CONNECT, index) || is_good;
  }
};

struct StatusTaker final : Link::Taker {
  std::uint16_t family = 0;
  Nbd::Lister* lister = nullptr;
  bool is_good = false;
  void take(const Message& message) noexcept override { is_good = read_status(message, family, *lister) || is_good; }
};

}  // namespace

Bytes write_find(std::span<std::uint8_t> room, std::uint32_t sequence) noexcept {
  MessageWriter writer(room, GENL_ID_CTRL, kFlags, sequence, CTRL_CMD_GETFAMILY, 1);
  writer.text(CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME);
  return writer.finish();
}

Bytes write_connect(std::span<std::uint8_t> room, std::uint16_t family, std::uint32_t sequence,
                    const ConnectTerms& terms) noexcept {
  MessageWriter writer(room, family, kFlags, sequence, NBD_CMD_CONNECT, NBD_GENL_VERSION);
  if (terms.index.has_value()) writer.u32(NBD_ATTR_INDEX, *terms.index);
  writer.u64(NBD_ATTR_SIZE_BYTES, terms.size_bytes);
  writer.u64(NBD_ATTR_BLOCK_SIZE_BYTES, terms.block_bytes);
  writer.u64(NBD_ATTR_SERVER_FLAGS, terms.flags);
  writer.u64(NBD_ATTR_TIMEOUT, terms.timeout_seconds);
  writer.u64(NBD_ATTR_DEAD_CONN_TIMEOUT, terms.dead_seconds);
  if (!terms.backend.empty()) writer.text(kBackendIdentifier, terms.backend);
  put_socket(writer, terms.socket);
  return writer.finish();
}

Bytes write_disconnect(std::span<std::uint8_t> room, std::uint16_t family, std::uint32_t sequence,
                       std::uint32_t index) noexcept {
  MessageWriter writer(room, family, kFlags, sequence, NBD_CMD_DISCONNECT, NBD_GENL_VERSION);
  writer.u32(NBD_ATTR_INDEX, index);
  return writer.finish();
}

Bytes write_reconfigure(std::span<std::uint8_t> room, std::uint16_t family, std::uint32_t sequence,
                        const ReconfigureTerms& terms) noexcept {
  MessageWriter writer(room, family, kFlags, sequence, NBD_CMD_RECONFIGURE, NBD_GENL_VERSION);
  writer.u32(NBD_ATTR_INDEX, terms.index);
  if (terms.timeout_seconds.has_value()) writer.u64(NBD_ATTR_TIMEOUT, *terms.timeout_seconds);
  if (terms.dead_seconds.has_value()) writer.u64(NBD_ATTR_DEAD_CONN_TIMEOUT, *terms.dead_seconds);
  if (!terms.backend.empty()) writer.text(kBackendIdentifier, terms.backend);
  if (terms.socket >= 0) put_socket(writer, terms.socket);
  return writer.finish();
}

Bytes write_status(std::span<std::uint8_t> room, std::uint16_t family, std::uint32_t sequence,
                   std::optional<std::uint32_t> index) noexcept {
  MessageWriter writer(room, family, kFlags, sequence, NBD_CMD_STATUS, NBD_GENL_VERSION);
  if (index.has_value()) writer.u32(NBD_ATTR_INDEX, *index);
  return writer.finish();
}

bool read_family(const Message& message, Family& out) noexcept {
  Generic generic;
  if (message.type != GENL_ID_CTRL || !read_generic(message, generic)) return false;
  if (generic.command != CTRL_CMD_NEWFAMILY) return false;
  Family found;
  Attributes attributes(generic.attributes);
  Attribute attribute;
  while (attributes.next(attribute)) {
    if (attribute.type == CTRL_ATTR_FAMILY_NAME && attribute.text() != NBD_GENL_FAMILY_NAME) return false;
    if (attribute.type == CTRL_ATTR_FAMILY_ID && !attribute.u16(found.id)) return false;
    if (attribute.type != CTRL_ATTR_MCAST_GROUPS) continue;
    Attributes groups(attribute.data);
    Attribute group;
    while (groups.next(group)) read_group(group.data, found.group);
    if (groups.is_broken()) return false;
  }
  if (attributes.is_broken() || found.id < NLMSG_MIN_TYPE || found.group == 0) return false;
  out = found;
  return true;
}

bool read_index(const Message& message, std::uint16_t family, std::uint8_t command, std::uint32_t& out) noexcept {
  Generic generic;
  if (message.type != family || !read_generic(message, generic) || generic.command != command) return false;
  bool found = false;
  Attributes attributes(generic.attributes);
  Attribute attribute;
  while (attributes.next(attribute)) {
    if (attribute.type != NBD_ATTR_INDEX) continue;
    if (!attribute.u32(out)) return false;
    found = true;
  }
  return found && !attributes.is_broken() && out <= kIndexMax;
}

bool read_status(const Message& message, std::uint16_t family, Nbd::Lister& lister) noexcept {
  Generic generic;
  if (message.type != family || !read_generic(message, generic) || generic.command != NBD_CMD_STATUS) return false;
  Attributes attributes(generic.attributes);
  Attribute list;
  while (attributes.next(list)) {
    if (list.type != NBD_ATTR_DEVICE_LIST) continue;
    Attributes items(list.data);
    Attribute item;
    while (items.next(item)) {
      if (item.type != NBD_DEVICE_ITEM) continue;
      Attributes parts(item.data);
      Attribute part;
      DeviceStatus device;
      bool has_index = false;
      while (parts.next(part)) {
        std::uint8_t connected = 0;
        if (part.type == NBD_DEVICE_INDEX) has_index = part.u32(device.index);
        if (part.type == NBD_DEVICE_CONNECTED && part.u8(connected)) device.is_connected = connected != 0;
      }
      if (parts.is_broken() || !has_index) return false;
      lister.device(device);
    }
    if (items.is_broken()) return false;
  }
  return !attributes.is_broken();
}

int Nbd::find() noexcept {
  Room room;
  const std::uint32_t sequence = link_.next_sequence();
  FamilyTaker taker;
  const int error = link_.ask(write_find(room, sequence), sequence, &taker);
  if (error < 0) return error;
  if (!taker.is_good) return -EBADMSG;
  family_ = taker.family;
  return 0;
}

int Nbd::connect(const ConnectTerms& terms, std::uint32_t& index) noexcept {
  Room room;
  const std::uint32_t sequence = link_.next_sequence();
  IndexTaker taker;
  taker.family = family_.id;
  const int error = link_.ask(write_connect(room, family_.id, sequence, terms), sequence, &taker);
  if (error < 0) return error;
  if (!taker.is_good) return -EBADMSG;
  index = taker.index;
  return 0;
}

int Nbd::disconnect(std::uint32_t index) noexcept {
  Room room;
  const std::uint32_t sequence = link_.next_sequence();
  return link_.ask(write_disconnect(room, family_.id, sequence, index), sequence, nullptr);
}

int Nbd::reconfigure(const ReconfigureTerms& terms) noexcept {
  Room room;
  const std::uint32_t sequence = link_.next_sequence();
  return link_.ask(write_reconfigure(room, family_.id, sequence, terms), sequence, nullptr);
}

int Nbd::status(std::optional<std::uint32_t> index, Lister& lister) noexcept {
  Room room;
  const std::uint32_t sequence = link_.next_sequence();
  StatusTaker taker;
  taker.family = family_.id;
  taker.lister = &lister;
  const int error = link_.ask(write_status(room, family_.id, sequence, index), sequence, &taker);
  return error < 0 ? error : taker.is_good ? 0 : -EBADMSG;
}

}  // namespace attach
