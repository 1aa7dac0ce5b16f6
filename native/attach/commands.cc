#include "attach/commands.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "attach/big_endian.h"
#include "attach/dial.h"
#include "attach/files.h"
#include "attach/json.h"
#include "attach/report.h"
#include "attach/time.h"

namespace attach {

namespace {

// How long the kernel takes to let a device go that nobody has open.
constexpr std::int64_t kGoneMs = 10'000;
constexpr std::int64_t kScanMs = 1'000;
constexpr std::uint32_t kRequestMagic = 0x25609513;
constexpr std::uint32_t kReplyMagic = 0x67446698;
constexpr std::uint16_t kRead = 0;
constexpr std::uint16_t kDisconnect = 2;

// Exact counts on a blocking socket, until the deadline.
bool receive_all(int fd, std::uint8_t* to, std::size_t length, std::int64_t deadline_ms) {
  while (length > 0) {
    const std::int64_t left = deadline_ms - now_ms();
    pollfd wait{fd, POLLIN, 0};
    if (left <= 0 || ::poll(&wait, 1, static_cast<int>(left)) < 0) {
      if (left > 0 && errno == EINTR) continue;
      return false;
    }
    const ssize_t got = ::recv(fd, to, length, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return false;
    to += got;
    length -= static_cast<std::size_t>(got);
  }
  return true;
}

bool send_request(int fd, std::uint16_t command, std::uint64_t cookie, std::uint64_t offset, std::uint32_t length) {
  std::uint8_t request[28];
  store32(request, kRequestMagic);
  store16(request + 4, 0);
  store16(request + 6, command);
  store64(request + 8, cookie);
  store64(request + 16, offset);
  store32(request + 24, length);
  return ::send(fd, request, sizeof request, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof request);
}

// The bytes of a range as hexadecimal digits; false when they did not come.
bool read_range(int fd, std::uint64_t cookie, const Range& range, std::int64_t deadline_ms, std::string& out) {
  if (!send_request(fd, kRead, cookie, range.offset, range.length)) return false;
  std::uint8_t head[16];
  if (!receive_all(fd, head, sizeof head, deadline_ms)) return false;
  if (load32(head) != kReplyMagic || load32(head + 4) != 0 || load64(head + 8) != cookie) return false;
  std::string data(range.length, '\0');
  if (!receive_all(fd, reinterpret_cast<std::uint8_t*>(data.data()), data.size(), deadline_ms)) return false;
  static constexpr char kDigits[] = "0123456789abcdef";
  out += '"';
  for (const char c : data) {
    const auto byte = static_cast<unsigned char>(c);
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  out += '"';
  return true;
}

class Listing final : public Nbd::Lister {
 public:
  explicit Listing(const char* root) : root_(root) {}
  void device(const DeviceStatus& status) noexcept override {
    const DeviceFiles files(root_, status.index);
    char backend[256];
    JsonLine line;
    line.number("index", status.index)
        .flag("connected", status.is_connected)
        .number("pid", static_cast<std::uint64_t>(std::max(0L, files.attached_by())))
        .number("size", files.size_bytes())
        .number("block", files.block_bytes())
        .text("backend", files.backend(backend, sizeof backend));
    if (!lines.empty()) lines += ',';
    lines += line.finish();
  }
  std::string lines;

 private:
  const char* root_;
};

}  // namespace

int status(const Options& options) {
  int fd = -1;
  if (const int failure = open_kernel(options, fd); failure != 0) return failure;
  static Link link(fd, true);
  Nbd nbd(link);
  if (const int failure = find_family(options, nbd); failure != 0) return failure;
  Listing listing(options.root);
  const int error = nbd.status(options.device, listing);
  if (error < 0) return failed(options, Code::kDevice, -error, "the kernel does not tell about its devices");
  JsonLine line;
  print(line.raw("devices", "[" + listing.lines + "]"));
  return 0;
}

int disconnect(const Options& options) {
  int fd = -1;
  if (const int failure = open_kernel(options, fd); failure != 0) return failure;
  static Link link(fd, true);
  Nbd nbd(link);
  if (const int failure = find_family(options, nbd); failure != 0) return failure;
  return disconnect_with(options, nbd);
}

int disconnect_with(const Options& options, Nbd& nbd) {
  const DeviceFiles device(options.root, *options.device);
  const long attached_by = device.attached_by();
  if (attached_by <= 0) return failed(options, Code::kNotAttached, 0, "%s is not attached", device.node());
  int held = -1;
  if (!options.force) {
    // Exclusively, as mounting, swapping, device mapper and RAID do it, also in other mount namespaces: whoever has
    // it so keeps us out, and as long as we have it nobody of them comes in.
    const std::string node = std::string(options.root) + device.node();
    // Tools that scan devices have it so for a moment.
    const std::int64_t until = now_ms() + kScanMs;
    while ((held = ::open(node.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC)) < 0 && errno == EBUSY && now_ms() < until)
      (void)::poll(nullptr, 0, 50);
    if (held < 0 && errno == EBUSY)
      return failed(options, Code::kDeviceBusy, 0, "%s is mounted or held by something else", device.node());
    if (held < 0) return failed(options, Code::kDevice, errno, "%s cannot be opened", device.node());
    if (::fsync(held) < 0) {
      const int error = errno;
      ::close(held);
      return failed(options, Code::kDevice, error,
                    "what was written to %s did not all reach the server, so it stays attached", device.node());
    }
  }
  const int error = nbd.disconnect(*options.device);
  if (held >= 0) ::close(held);
  if (error == -EPERM)
    return failed(options, Code::kPermission, -error, "the kernel does not let this user detach devices");
  if (error < 0) return failed(options, Code::kDevice, -error, "the kernel does not detach %s", device.node());
  const std::int64_t deadline = now_ms() + kGoneMs;
  while (device.attached_by() == attached_by) {
    if (now_ms() >= deadline)
      return failed(options, Code::kDeviceBusy, 0,
                    "%s has no server any more, and somebody has it open still; it is free when that ends", device.node());
    (void)::poll(nullptr, 0, 20);
  }
  JsonLine line;
  print(line.text("disconnected", device.node()));
  return 0;
}

int probe(const Options& options) {
  const char* where = options.server->text;
  const std::int64_t deadline = now_ms() + std::int64_t{options.patience_seconds} * 1000;
  Dial dial(*options.server, options.name, nullptr);
  if (!finish_dial(dial, deadline, -1))
    return failed(options, Code::kTimeout, 0, "%s takes the connection and does not answer within %u s", where,
                  options.patience_seconds);
  if (const int failure = dial_failed(options, dial); failure != 0) return failure;
  const Export& offered = dial.handshake().offered();
  const int fd = dial.release();
  std::string blocks;
  for (std::size_t i = 0; i < options.ranges.size(); i++) {
    if (i > 0) blocks += ',';
    if (read_range(fd, i, options.ranges[i], deadline, blocks)) continue;
    ::close(fd);
    return failed(options, Code::kProtocol, 0, "%s does not answer a READ as it should", where);
  }
  (void)send_request(fd, kDisconnect, 0, 0, 0);
  ::close(fd);
  JsonLine line;
  print(line.number("size", offered.size_bytes)
            .number("flags", offered.flags)
            .number("minimum", offered.minimum_bytes)
            .number("preferred", offered.preferred_bytes)
            .number("maximum", offered.maximum_bytes)
            .raw("read", "[" + blocks + "]"));
  return 0;
}

int dial_failed(const Options& options, const Dial& dial) {
  if (dial.state() != Dial::State::kFailed) return 0;
  Code code = Code::kDial;
  switch (dial.handshake().failure()) {
    case Handshake::Failure::kNone:
      break;
    case Handshake::Failure::kProtocol:
      code = Code::kProtocol;
      break;
    case Handshake::Failure::kUnknownExport:
    case Handshake::Failure::kRefused:
      code = Code::kRefused;
      break;
  }
  return failed(options, code, 0, "%s: %s", options.server->text, dial.problem());
}

int open_kernel(const Options& options, int& fd) {
  if (options.root[0] != '\0') return failed(options, Code::kNoNbd, 0, "there is no kernel below %s", options.root);
  fd = Link::open_kernel();
  return fd < 0 ? failed(options, Code::kNoNbd, -fd, "the kernel's netlink cannot be opened") : 0;
}

int find_family(const Options& options, Nbd& nbd) {
  const int error = nbd.find();
  if (error == 0) return 0;
  if (error == -ENOENT) return failed(options, Code::kNoNbd, 0, "the kernel's module nbd is not loaded");
  return failed(options, Code::kNoNbd, -error, "the kernel's nbd driver does not answer");
}

}  // namespace attach
