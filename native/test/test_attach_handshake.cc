#include <stdlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "attach/address.h"
#include "attach/big_endian.h"
#include "attach/handshake.h"
#include "attach/identity.h"
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
    Handshake shake("photos", nullptr);
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
  Handshake plain("", nullptr);
  Buffer heard;
  feed(plain, greeting(1) + reply(3, kInfoExport) + reply(1, {}), 1000, heard);
  CHECK(plain.state() == State::kDone && plain.offered().preferred_bytes == 0);
  CHECK(heard == Buffer({0, 0, 0, 1}) + text("IHAVEOPT") + Buffer({0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 3}));
  const std::string long_name(kNameBytesMax, 'n');
  Handshake longest(long_name, nullptr);
  heard.clear();
  feed(longest, good(), 1000, heard);
  CHECK(longest.state() == State::kDone && heard.size() == 28 + kNameBytesMax);
  // Information longer than what is kept is passed over.
  Handshake chatty("x", nullptr);
  heard.clear();
  feed(chatty, greeting() + reply(3, Buffer({0, 2}) + Buffer(60'000, 'd')) + reply(3, kInfoExport) + reply(1, {}), 333, heard);
  CHECK(chatty.state() == State::kDone && chatty.offered().size_bytes == 0x40000000);
}

constexpr std::uint32_t kAttachment = 0x54525641;
constexpr AttachmentId kId = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};

// The option before GO, byte for byte as in src/nbd; and GO after it, whatever the server thinks of it.
void tells_its_attachment() {
  const Buffer go = text("IHAVEOPT") + Buffer({0, 0, 0, 7, 0, 0, 0, 14, 0, 0, 0, 6}) + text("photos") + Buffer({0, 1, 0, 3});
  const Buffer option = Buffer({0, 0, 0, 3}) + text("IHAVEOPTTRVA") + Buffer({0, 0, 0, 16}) + Buffer(kId.begin(), kId.end());
  const Buffer offered = reply(3, kInfoExport) + reply(1, {});
  for (const std::size_t step : {1UL, 3UL, 5000UL}) {
    for (const Buffer& answer :
         {reply(1, {}, kAttachment), reply(0x80000001, {}, kAttachment), reply(0x80000001, text("what?"), kAttachment),
          reply(0x80000002, Buffer(60'000, 'x'), kAttachment), reply(0x80000007, {}, kAttachment)}) {
      Handshake shake("photos", &kId);
      Buffer heard;
      const Buffer said = greeting() + answer + offered;
      CHECK(feed(shake, said + Buffer(32, 0x67), step, heard) == said.size());
      CHECK(shake.state() == State::kDone && shake.offered().size_bytes == 0x40000000);
      CHECK(heard == option + go);
    }
  }
  const auto failure = [](const Buffer& answer) {
    Handshake shake("photos", &kId);
    Buffer heard;
    feed(shake, greeting() + answer, 7, heard);
    CHECK(shake.state() == State::kFailed && shake.failure() == Failure::kProtocol);
    return std::string(shake.problem());
  };
  CHECK(failure(reply(1, {0}, kAttachment)) == "the server's acknowledgement carries data");
  CHECK(failure(reply(3, kInfoExport, kAttachment)) == "the server's reply is of an unknown type");
  CHECK(failure(reply(1, {})) == "the server answers an option that was not sent");
  CHECK(failure(reply(1, {}, kAttachment) + reply(1, {}, kAttachment)) == "the server answers an option that was not sent");
  Handshake longest(std::string(kNameBytesMax, 'n'), &kId);
  Buffer heard;
  feed(longest, greeting() + reply(1, {}, kAttachment) + offered, 1000, heard);
  CHECK(longest.state() == State::kDone && heard.size() == 36 + 24 + kNameBytesMax);
}

// Of the machine, or else of this boot, or else of this process.
void identities() {
  char root[] = "/tmp/trivet-identity-XXXXXX";
  CHECK(::mkdtemp(root) != nullptr);
  const std::string base = root;
  const auto put = [&](const std::string& path, const std::string& content) {
    const std::string command = "mkdir -p $(dirname " + base + path + ") && printf '" + content + "' >" + base + path;
    CHECK(std::system(command.c_str()) == 0);
  };
  const auto told = [&] {
    const AttachmentId id = attachment_id(root);
    return std::string(reinterpret_cast<const char*>(id.data()), 8) + " " + std::to_string(load64(id.data() + 8));
  };
  CHECK(told().starts_with("process:") && told() != told());
  put("/proc/sys/kernel/random/boot_id", "2d33a5ac-5b8a-4a6b-9d2b-0a9a56e2a7f1\\n");
  const std::string of_boot = told();
  CHECK(of_boot.starts_with("of boot:") && told() == of_boot);
  for (const char* bad : {"", "uninitialized\\n", "0123456789abcdef0123456789abcde\\n", "0123456789abcdef0123456789abcdefa\\n",
                          "0123456789abcdef0123456789ABCDEF\\n"}) {
    put("/etc/machine-id", bad);
    CHECK(told() == of_boot);
  }
  put("/etc/machine-id", "0123456789abcdef0123456789abcdef\\n");
  CHECK(told() == "machine: 95275530947985237");
  // The boot has nothing to do with it.
  put("/proc/sys/kernel/random/boot_id", "");
  CHECK(told() == "machine: 95275530947985237");
  put("/etc/machine-id", "0123456789abcdef0123456789abcdee");
  CHECK(told().starts_with("machine:") && told() != "machine: 95275530947985237");
  CHECK(std::system(("rm -rf " + base).c_str()) == 0);
}

void fails(const Buffer& said, Failure failure, std::string_view problem) {
  for (const std::size_t step : {1UL, 5000UL}) {
    Handshake shake("photos", nullptr);
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
    Handshake shake("photos", nullptr);
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
  tells_its_attachment();
  identities();
  refusals();
  mutations();
  addresses();
  return 0;
}
