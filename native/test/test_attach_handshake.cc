#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "attach/address.h"
#include "attach/big_endian.h"
#include "attach/handshake.h"
#include "test/check.h"

namespace {

using namespace attach;
using Buffer = std::vector<std::uint8_t>;
using State = Handshake::State;
using Failure = Handshake::Failure;

Buffer operator+(Buffer a, const Buffer& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
Buffer text(std::string_view value) { return Buffer(value.begin(), value.end()); }

Buffer greeting(std::uint16_t flags = 3) {
  Buffer out = text("NBDMAGICIHAVEOPT");
  out.push_back(static_cast<std::uint8_t>(flags >> 8));
  out.push_back(static_cast<std::uint8_t>(flags));
  return out;
}
Buffer reply(std::uint32_t type, const Buffer& data, std::uint32_t option = 7, std::uint32_t length = ~0U) {
  Buffer out = {0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9};
  out.resize(20);
  store32(out.data() + 8, option);
  store32(out.data() + 12, type);
  store32(out.data() + 16, length == ~0U ? static_cast<std::uint32_t>(data.size()) : length);
  return out + data;
}
const Buffer kInfoExport = {0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 5, 0x6d};
const Buffer kInfoBlockSize = {0, 3, 0, 0, 2, 0, 0, 0, 0x10, 0, 4, 0, 0, 0};
Buffer good() {
  return greeting() + reply(3, kInfoExport) + reply(3, {0, 1, 'p', 'h'}) + reply(3, {0, 2}) + reply(3, kInfoBlockSize) +
         reply(3, {0, 77, 1, 2, 3}) + reply(1, {});
}

// Feeds what the server says in pieces of at most `step` bytes; answers how much of it was taken.
std::size_t feed(Handshake& shake, const Buffer& said, std::size_t step, Buffer& heard) {
  std::size_t at = 0;
  while (shake.state() == State::kGoing) {
    const Bytes out = shake.outgoing();
    if (!out.empty()) {
      CHECK(shake.room().empty());
      const std::size_t length = std::min(step, out.size());
      heard.insert(heard.end(), out.begin(), out.begin() + static_cast<long>(length));
      shake.sent(length);
      continue;
    }
    const std::span<std::uint8_t> room = shake.room();
    CHECK(!room.empty());
    const std::size_t length = std::min({step, room.size(), said.size() - at});
    if (length == 0) break;
    std::memcpy(room.data(), said.data() + at, length);
    at += length;
    shake.received(length);
  }
  return at;
}

void succeeds() {
  for (const std::size_t step : {1UL, 2UL, 7UL, 1000UL}) {
    Handshake shake("photos");
    Buffer heard;
    // What follows the handshake is the kernel's: not a byte of it may be taken.
    const Buffer said = good() + Buffer(32, 0x67);
    CHECK(feed(shake, said, step, heard) == said.size() - 32);
    CHECK(shake.state() == State::kDone && shake.failure() == Failure::kNone);
    CHECK(shake.room().empty() && shake.outgoing().empty());
    CHECK(shake.offered().size_bytes == 0x40000000 && shake.offered().flags == 0x056d);
    CHECK(shake.offered().minimum_bytes == 512 && shake.offered().preferred_bytes == 4096);
    CHECK(shake.offered().maximum_bytes == 0x4000000);
    CHECK(heard == Buffer({0, 0, 0, 3}) + text("IHAVEOPT") + Buffer({0, 0, 0, 7, 0, 0, 0, 14, 0, 0, 0, 6}) +
                       text("photos") + Buffer({0, 1, 0, 3}));
  }
  // Only what the server offers is answered; the empty name; nothing about block sizes.
  Handshake plain("");
  Buffer heard;
  feed(plain, greeting(1) + reply(3, kInfoExport) + reply(1, {}), 1000, heard);
  CHECK(plain.state() == State::kDone && plain.offered().preferred_bytes == 0);
  CHECK(heard == Buffer({0, 0, 0, 1}) + text("IHAVEOPT") + Buffer({0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 3}));
  const std::string long_name(kNameBytesMax, 'n');
  Handshake longest(long_name);
  heard.clear();
  feed(longest, good(), 1000, heard);
  CHECK(longest.state() == State::kDone && heard.size() == 28 + kNameBytesMax);
  // Information longer than what is kept is passed over.
  Handshake chatty("x");
  heard.clear();
  feed(chatty, greeting() + reply(3, Buffer({0, 2}) + Buffer(60'000, 'd')) + reply(3, kInfoExport) + reply(1, {}), 333, heard);
  CHECK(chatty.state() == State::kDone && chatty.offered().size_bytes == 0x40000000);
}

void fails(const Buffer& said, Failure failure, std::string_view problem) {
  for (const std::size_t step : {1UL, 5000UL}) {
    Handshake shake("photos");
    Buffer heard;
    feed(shake, said, step, heard);
    CHECK(shake.state() == State::kFailed && shake.failure() == failure);
    if (std::string_view(shake.problem()) != problem) std::fprintf(stderr, "%s\n", shake.problem());
    CHECK(shake.problem() == problem);
    CHECK(shake.room().empty() && shake.outgoing().empty());
    shake.received(0);
  }
}

void refusals() {
  fails(text("SSH-2.0-OpenSSH_9.2p1"), Failure::kProtocol, "the server does not speak NBD");
  fails(text("NBDMAGIC") + Buffer({0, 0, 0x42, 2, 0x81, 0x86, 0x12, 0x53, 0, 0}), Failure::kProtocol,
        "the server speaks oldstyle NBD");
  fails(greeting(2), Failure::kProtocol, "the server does not speak fixed newstyle NBD");
  fails(greeting() + reply(0x80000006, text("no such export")), Failure::kUnknownExport,
        "the server has no such export: no such export");
  fails(greeting() + reply(0x80000005, {}), Failure::kRefused,
        "the server wants TLS, which the kernel's client does not speak");
  fails(greeting() + reply(0x80000007, {}), Failure::kRefused, "the server is stopping");
  fails(greeting() + reply(0x80000001, {}), Failure::kRefused, "the server does not know GO");
  fails(greeting() + reply(0x800000ff, text("a\x1b[2J\n\xff")), Failure::kRefused, "the server refuses: a?[2J??");
  fails(greeting() + reply(0x80000002, Buffer(60'000, 'x')), Failure::kRefused,
        "the server forbids it: " + std::string(255 - 23, 'x'));
  fails(greeting() + reply(1, {}), Failure::kProtocol, "the server does not tell the size");
  fails(greeting() + reply(3, kInfoExport) + reply(1, {0}), Failure::kProtocol,
        "the server's acknowledgement carries data");
  fails(greeting() + reply(2, {}), Failure::kProtocol, "the server's reply is of an unknown type");
  fails(greeting() + reply(3, kInfoExport, 6), Failure::kProtocol, "the server answers an option that was not sent");
  fails(greeting() + Buffer(20, 0), Failure::kProtocol, "the server's reply has a wrong magic number");
  fails(greeting() + reply(3, {}, 7, 65'537), Failure::kProtocol, "the server's reply is absurdly long");
  fails(greeting() + reply(3, {}, 7, 0xfffffffe), Failure::kProtocol, "the server's reply is absurdly long");
  fails(greeting() + reply(3, {0}), Failure::kProtocol, "the server's information is cut off");
  fails(greeting() + reply(3, {}), Failure::kProtocol, "the server's information is cut off");
  fails(greeting() + reply(3, {0, 0, 1}), Failure::kProtocol,
        "the server's information on the export has a wrong length");
  fails(greeting() + reply(3, kInfoExport + Buffer({0})), Failure::kProtocol,
        "the server's information on the export has a wrong length");
  fails(greeting() + reply(3, {0, 3, 1}), Failure::kProtocol,
        "the server's information on block sizes has a wrong length");
  Buffer endless = greeting();
  for (int i = 0; i < 65; i++) endless = endless + reply(3, kInfoExport);
  fails(endless, Failure::kProtocol, "the server does not come to an end");
}

// Good conversations with bytes changed: they end somehow, within the memory that there is.
void mutations() {
  std::uint64_t seed = 0x9e3779b97f4a7c15;
  const auto next = [&] {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    return static_cast<std::uint32_t>(seed >> 33);
  };
  for (int round = 0; round < 20'000; round++) {
    Buffer said = good();
    for (std::uint32_t changes = 1 + next() % 4; changes > 0; changes--)
      said[next() % said.size()] = static_cast<std::uint8_t>(next());
    if (next() % 3 == 0) said.resize(next() % said.size());
    Handshake shake("photos");
    Buffer heard;
    feed(shake, said, 1 + next() % 40, heard);
    CHECK(shake.state() != State::kFailed || std::strlen(shake.problem()) < 256);
  }
}

void addresses() {
  Address address;
  for (const char* bad : {"", "unix:", "10809", ":10809", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536",
                          "127.0.0.1:10809x", "localhost:10809", "::1:10809", "[::1]", "[::1:10809", "[box]:1", "1.2.3:4"})
    CHECK(!parse_address(bad, address));
  CHECK(!parse_address("unix:/" + std::string(107, 'p'), address));
  CHECK(!parse_address(std::string(400, '1') + ":1", address));
  CHECK(parse_address("127.0.0.1:10809", address) && address.name.ss_family == AF_INET);
  CHECK(parse_address("[fe80::1]:1", address) && address.name.ss_family == AF_INET6);
  CHECK(parse_address("unix:/" + std::string(106, 'p'), address) && address.name.ss_family == AF_UNIX);
  CHECK(std::strlen(address.text) == 112);
}

}  // namespace

int main() {
  succeeds();
  refusals();
  mutations();
  addresses();
  return 0;
}
