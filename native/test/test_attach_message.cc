#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "attach/link.h"
#include "attach/nbd.h"
#include "test/check.h"

// Expected bytes are put together by hand from the kernel's uapi headers; netlink is in host order, here little-endian.

namespace {

using namespace attach;
using Buffer = std::vector<std::uint8_t>;

bool equal(Bytes found, const Buffer& wanted) {
  if (found.size() == wanted.size() && std::memcmp(found.data(), wanted.data(), wanted.size()) == 0) return true;
  for (std::size_t i = 0; i < std::max(found.size(), wanted.size()); i++)
    std::fprintf(stderr, "%zu: %02x %02x\n", i, i < found.size() ? found[i] : 0xeeeU, i < wanted.size() ? wanted[i] : 0xeeeU);
  return false;
}

void requests() {
  std::array<std::uint8_t, 1024> room;
  CHECK(equal(write_find(room, 9), {
                                       28, 0, 0, 0, 0x10, 0, 5, 0, 9, 0, 0, 0, 0, 0, 0, 0,
                                       3, 1, 0, 0,
                                       8, 0, 2, 0, 'n', 'b', 'd', 0,
                                   }));
  ConnectTerms connect;
  connect.index = 3;
  connect.size_bytes = 0x40000000;
  connect.block_bytes = 4096;
  connect.flags = 0x056d;
  connect.timeout_seconds = 0;
  connect.dead_seconds = 600;
  connect.backend = "trivet/photos";
  connect.socket = 5;
  const Buffer with_index = {
      124, 0, 0, 0, 0x1c, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0,                                          //
      1, 1, 0, 0,                                                                                   // CONNECT
      8, 0, 1, 0, 3, 0, 0, 0,                                                                       // INDEX
      12, 0, 2, 0, 0, 0, 0, 0x40, 0, 0, 0, 0,                                                       // SIZE_BYTES
      12, 0, 3, 0, 0, 0x10, 0, 0, 0, 0, 0, 0,                                                       // BLOCK_SIZE_BYTES
      12, 0, 5, 0, 0x6d, 5, 0, 0, 0, 0, 0, 0,                                                       // SERVER_FLAGS
      12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0,                                                          // TIMEOUT
      12, 0, 8, 0, 0x58, 2, 0, 0, 0, 0, 0, 0,                                                       // DEAD_CONN_TIMEOUT
      18, 0, 10, 0, 't', 'r', 'i', 'v', 'e', 't', '/', 'p', 'h', 'o', 't', 'o', 's', 0, 0, 0,       // BACKEND_IDENTIFIER, padded
      16, 0, 7, 0x80, 12, 0, 1, 0x80, 8, 0, 1, 0, 5, 0, 0, 0,                                       // SOCKETS, ITEM, FD
  };
  CHECK(equal(write_connect(room, 0x1c, 7, connect), with_index));
  connect.index.reset();
  connect.backend = {};
  Buffer without = with_index;
  without.erase(without.begin() + 88, without.begin() + 108);
  without.erase(without.begin() + 20, without.begin() + 28);
  without[0] = 96;
  CHECK(equal(write_connect(room, 0x1c, 7, connect), without));

  CHECK(equal(write_disconnect(room, 0x1c, 1, 2), {28, 0, 0, 0, 0x1c, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0,  //
                                                   2,  1, 0, 0, 8,    0, 1, 0, 2, 0, 0, 0}));
  CHECK(equal(write_status(room, 0x1c, 1, std::nullopt),
              {20, 0, 0, 0, 0x1c, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0}));
  CHECK(write_status(room, 0x1c, 1, 4).size() == 28);

  ReconfigureTerms times;
  times.index = 2;
  times.timeout_seconds = 0;
  times.dead_seconds = 60;
  CHECK(equal(write_reconfigure(room, 0x1c, 1, times), {
                                                           52, 0, 0, 0, 0x1c, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0,
                                                           3, 1, 0, 0,
                                                           8, 0, 1, 0, 2, 0, 0, 0,
                                                           12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                                           12, 0, 8, 0, 60, 0, 0, 0, 0, 0, 0, 0,
                                                       }));
  // No size: a changed one would freeze the device, an older one would shrink it.
  ReconfigureTerms socket;
  socket.index = 2;
  socket.socket = 6;
  CHECK(equal(write_reconfigure(room, 0x1c, 1, socket), {
                                                            44, 0, 0, 0, 0x1c, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0,
                                                            3, 1, 0, 0,
                                                            8, 0, 1, 0, 2, 0, 0, 0,
                                                            16, 0, 7, 0x80, 12, 0, 1, 0x80, 8, 0, 1, 0, 6, 0, 0, 0,
                                                        }));
  // What does not fit is no message.
  std::array<std::uint8_t, 1024> small;
  for (std::size_t size = 0; size < 96; size++) CHECK(write_connect(std::span(small).first(size), 1, 1, connect).empty());
  const std::string long_name(300, 'x');
  connect.backend = long_name;
  CHECK(write_connect(room, 1, 1, connect).empty());
}

Buffer message(std::uint16_t type, std::uint32_t sequence, const Buffer& body, std::uint16_t flags = 0) {
  Buffer out(16);
  const auto length = static_cast<std::uint32_t>(16 + body.size());
  std::memcpy(out.data(), &length, 4);
  std::memcpy(out.data() + 4, &type, 2);
  std::memcpy(out.data() + 6, &flags, 2);
  std::memcpy(out.data() + 8, &sequence, 4);
  out.insert(out.end(), body.begin(), body.end());
  while (out.size() % 4 != 0) out.push_back(0);
  return out;
}

Buffer operator+(Buffer a, const Buffer& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// As a kernel 6.x answers: version, header size, the largest attribute, operations, groups.
const Buffer kFamilyBody = {
    1, 2, 0, 0,                                                          // NEWFAMILY
    8, 0, 2, 0, 'n', 'b', 'd', 0,                                        // FAMILY_NAME
    6, 0, 1, 0, 0x1c, 0, 0, 0,                                           // FAMILY_ID, padded
    8, 0, 3, 0, 1, 0, 0, 0,                                              // VERSION
    8, 0, 4, 0, 0, 0, 0, 0,                                              // HDRSIZE
    8, 0, 5, 0, 10, 0, 0, 0,                                             // MAXATTR
    24, 0, 6, 0x80, 20, 0, 1, 0x80, 8, 0, 1, 0, 1, 0, 0, 0, 8, 0, 2, 0, 11, 0, 0, 0,  // OPS
    36, 0, 7, 0x80, 32, 0, 1, 0x80,                                      // MCAST_GROUPS, the first
    8, 0, 2, 0, 6, 0, 0, 0,                                              // MCAST_GRP_ID
    17, 0, 1, 0, 'n', 'b', 'd', '_', 'm', 'c', '_', 'g', 'r', 'o', 'u', 'p', 0, 0, 0, 0,
};

// The first message of a datagram; it points into what stays until the next one.
bool first(Buffer bytes, Message& out) {
  static Buffer kept;
  kept = std::move(bytes);
  Messages messages{Bytes{kept}};
  return messages.next(out);
}

struct Devices final : Nbd::Lister {
  std::vector<DeviceStatus> found;
  void device(const DeviceStatus& status) noexcept override { found.push_back(status); }
};

void answers() {
  Message one;
  Family family;
  CHECK(first(message(GENL_ID_CTRL, 1, kFamilyBody), one));
  CHECK(read_family(one, family) && family.id == 0x1c && family.group == 6);
  // Another family, another command, a family without the group.
  Buffer other = kFamilyBody;
  other[8] = 'm';
  CHECK(first(message(GENL_ID_CTRL, 1, other), one) && !read_family(one, family));
  other = kFamilyBody;
  other[0] = 2;
  CHECK(first(message(GENL_ID_CTRL, 1, other), one) && !read_family(one, family));
  other = Buffer(kFamilyBody.begin(), kFamilyBody.begin() + 44);
  CHECK(first(message(GENL_ID_CTRL, 1, other), one) && !read_family(one, family));
  CHECK(family.id == 0x1c);

  std::uint32_t index = 0;
  const Buffer dead = {4, 1, 0, 0, 8, 0, 1, 0, 9, 0, 0, 0};
  CHECK(first(message(0x1c, 0, dead), one));
  CHECK(read_index(one, 0x1c, NBD_CMD_LINK_DEAD, index) && index == 9);
  CHECK(!read_index(one, 0x1d, NBD_CMD_LINK_DEAD, index));
  CHECK(!read_index(one, 0x1c, NBD_CMD_CONNECT, index));
  const Buffer odd = {4, 1, 0, 0, 6, 0, 1, 0, 9, 0, 0, 0};
  CHECK(first(message(0x1c, 0, odd), one) && !read_index(one, 0x1c, NBD_CMD_LINK_DEAD, index));
  const Buffer absurd = {4, 1, 0, 0, 8, 0, 1, 0, 9, 0, 0, 0x80};
  CHECK(first(message(0x1c, 0, absurd), one) && !read_index(one, 0x1c, NBD_CMD_LINK_DEAD, index));

  // Two devices, as populate_nbd_status nests them: without the flag for nesting, a byte that is padded.
  const Buffer status = {
      5, 1, 0, 0,
      44, 0, 9, 0,
      20, 0, 1, 0, 8, 0, 1, 0, 0, 0, 0, 0, 5, 0, 2, 0, 1, 0, 0, 0,
      20, 0, 1, 0, 8, 0, 1, 0, 7, 0, 0, 0, 5, 0, 2, 0, 0, 0, 0, 0,
  };
  Devices devices;
  CHECK(first(message(0x1c, 3, status), one) && read_status(one, 0x1c, devices));
  CHECK(devices.found.size() == 2 && devices.found[0].index == 0 && devices.found[0].is_connected);
  CHECK(devices.found[1].index == 7 && !devices.found[1].is_connected);
}

// Every length in a good message, made everything that it could be: nothing is read beyond the bytes (the sanitizer
// watches).
void hostile() {
  const Buffer good[] = {message(GENL_ID_CTRL, 1, kFamilyBody),
                         message(0x1c, 3, {5, 1, 0, 0, 24, 0, 9, 0, 20, 0, 1, 0, 8, 0, 1, 0, 0, 0, 0, 0, 5, 0, 2, 0, 1, 0, 0, 0}),
                         message(0x1c, 3, {4, 1, 0, 0, 8, 0, 1, 0, 9, 0, 0, 0}), message(NLMSG_ERROR, 3, {0, 0, 0, 0})};
  const auto look = [](const Buffer& bytes) {
    // An allocation of exactly that size.
    const Buffer exact(bytes);
    Messages messages{Bytes{exact}};
    Message one;
    int steps = 0;
    while (messages.next(one)) {
      CHECK(++steps < 1000);
      Family family;
      std::uint32_t index = 0;
      int error = 0;
      Devices devices;
      (void)read_family(one, family);
      (void)read_index(one, 0x1c, NBD_CMD_LINK_DEAD, index);
      (void)read_status(one, 0x1c, devices);
      (void)read_error(one, error);
    }
  };
  for (const Buffer& bytes : good) {
    for (std::size_t cut = 0; cut <= bytes.size(); cut++) look(Buffer(bytes.begin(), bytes.begin() + static_cast<long>(cut)));
    for (std::size_t at = 0; at + 1 < bytes.size(); at++)
      for (const int value : {0, 1, 3, 4, 5, 15, 16, 17, 127, 255, 256, 0x7fff, 0x8000, 0xffff}) {
        Buffer bad = bytes;
        bad[at] = static_cast<std::uint8_t>(value);
        bad[at + 1] = static_cast<std::uint8_t>(value >> 8);
        look(bad);
      }
  }
  // What is broken is said to be.
  Message one;
  Messages cut{Bytes{good[0]}.first(20)};
  CHECK(!cut.next(one) && cut.is_broken());
  const Buffer nothing(16, 0);
  Messages zero{Bytes{nothing}};
  CHECK(!zero.next(one) && zero.is_broken());
  const Buffer short_attribute = {3, 0, 1, 0};
  Attributes attributes{Bytes{short_attribute}};
  Attribute attribute;
  CHECK(!attributes.next(attribute) && attributes.is_broken());
}

// A kernel that answers with these datagrams, whatever it is asked. Sequence numbers begin with 1.
int ask(const std::vector<Buffer>& datagrams, Link::Taker* taker) {
  int ends[2];
  CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  std::thread kernel([&] {
    char request[1024];
    CHECK(::recv(ends[1], request, sizeof request, 0) == 28);
    for (const Buffer& one : datagrams) CHECK(::send(ends[1], one.data(), one.size(), 0) > 0);
  });
  Link link(ends[0], false);
  std::array<std::uint8_t, 1024> room;
  const std::uint32_t sequence = link.next_sequence();
  const int result = link.ask(write_find(room, sequence), sequence, taker);
  kernel.join();
  ::close(ends[1]);
  return result;
}

struct Count final : Link::Taker {
  int taken = 0;
  void take(const Message&) noexcept override { taken += 1; }
};

void conversations() {
  const auto error = [](std::uint32_t sequence, int value) {
    Buffer body(4);
    std::memcpy(body.data(), &value, 4);
    // The request that it is about follows.
    return message(NLMSG_ERROR, sequence, body + Buffer(16, 0));
  };
  Count count;
  CHECK(ask({error(1, 0)}, &count) == 0 && count.taken == 0);
  CHECK(ask({error(1, -ENOENT)}, &count) == -ENOENT);
  CHECK(ask({error(1, -EPERM)}, nullptr) == -EPERM);
  // An errno that is none.
  CHECK(ask({error(1, 5)}, nullptr) == -EBADMSG);
  CHECK(ask({message(NLMSG_ERROR, 1, {0, 0})}, nullptr) == -EBADMSG);
  // The answer and its acknowledgement, apart and in one datagram; answers to other requests before it.
  const Buffer family = message(GENL_ID_CTRL, 1, kFamilyBody);
  CHECK(ask({family, error(1, 0)}, &count) == 0 && count.taken == 1);
  CHECK(ask({error(77, -EIO), family + error(1, 0)}, &count) == 0 && count.taken == 2);
  // Several parts, up to DONE, which may carry an error.
  const Buffer part = message(GENL_ID_CTRL, 1, kFamilyBody, NLM_F_MULTI);
  CHECK(ask({part + part, part, message(NLMSG_DONE, 1, {0, 0, 0, 0}, NLM_F_MULTI)}, &count) == 0 && count.taken == 5);
  CHECK(ask({part, message(NLMSG_DONE, 1, {0xfb, 0xff, 0xff, 0xff}, NLM_F_MULTI)}, &count) == -EIO);
  CHECK(ask({message(NLMSG_DONE, 1, {})}, &count) == 0);
  CHECK(ask({message(NLMSG_NOOP, 1, {}), message(NLMSG_OVERRUN, 1, {})}, &count) == -ENOBUFS);
  // Bytes that are no message, and a kernel that goes away.
  CHECK(ask({Buffer(7, 0xff)}, &count) == -EBADMSG);
  CHECK(ask({Buffer(100'000, 1)}, &count) == -EBADMSG);

  int ends[2];
  CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  Link link(ends[0], false);
  Bytes nothing;
  CHECK(link.receive(nothing) == 0);
  ::close(ends[1]);
  CHECK(link.receive(nothing) == -EPIPE);
  std::array<std::uint8_t, 64> room;
  CHECK(link.ask(write_find(room, 1), 1, nullptr) == -EPIPE);
  CHECK(link.ask({}, 1, nullptr) == -EMSGSIZE);
}

// The real kernel has the controller, whatever modules are loaded; a family that nobody has is ENOENT.
void kernel() {
  const int fd = Link::open_kernel();
  if (fd < 0) return;
  Link link(fd, true);
  Nbd nbd(link);
  const int error = nbd.find();
  CHECK(error == 0 ? nbd.family().id >= NLMSG_MIN_TYPE : error == -ENOENT);
  CHECK(link.join(0xffffff) < 0);
}

}  // namespace

int main() {
  static_assert(std::endian::native == std::endian::little);
  requests();
  answers();
  hostile();
  conversations();
  kernel();
  return 0;
}
