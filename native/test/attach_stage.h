#pragma once
#include <fcntl.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "attach/big_endian.h"
#include "attach/settle.h"
#include "attach/supervisor.h"
#include "attach/time.h"
#include "test/check.h"

// A kernel, a server and a sysfs for the loop that keeps a device connected, all played by threads and folders of the
// test.
namespace attach_stage {

using namespace attach;

using Buffer = std::vector<std::uint8_t>;

inline constexpr std::uint16_t kFamily = 0x1c;
inline constexpr std::uint32_t kIndex = 3;
inline constexpr std::uint64_t kSize = 1 << 20;
inline constexpr std::uint16_t kOffers = 0x006d;

inline bool within(int ms, const std::function<bool()>& holds) {
  for (const std::int64_t end = now_ms() + ms; !holds();) {
    if (now_ms() > end) return false;
    ::usleep(1000);
  }
  return true;
}

// sysfs of one device.
class Folder {
 public:
  Folder() {
    CHECK(::mkdtemp(path_) != nullptr);
    for (const char* one : {"/sys", "/sys/block", "/sys/block/nbd3", "/sys/block/nbd3/queue", "/dev", "/run"})
      CHECK(::mkdir((std::string(path_) + one).c_str(), 0755) == 0);
    write("pid", "77");
    write("size", std::to_string(kSize / 512));
    write("ro", "0");
  }
  ~Folder() {
    const std::string command = std::string("rm -rf ") + path_;
    CHECK(std::system(command.c_str()) == 0);
  }
  void write(const std::string& name, const std::string& text) { put("/sys/block/nbd3/" + name, text + "\n"); }
  void put(const std::string& name, const std::string& text) {
    const int fd = ::open((path_ + name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    ::close(fd);
  }
  std::string get(const std::string& name) {
    char text[64] = {};
    return read_line((std::string(path_) + "/sys/block/nbd3/" + name).c_str(), text, sizeof text) < 0 ? "" : text;
  }
  void remove(const std::string& name) { CHECK(::unlink((std::string(path_) + "/sys/block/nbd3/" + name).c_str()) == 0); }
  const char* root() const { return path_; }

 private:
  char path_[32] = "/tmp/trivet-attach-XXXXXX";
};

// A server that does handshakes and then keeps its connections.
class Server {
 public:
  explicit Server(const std::string& path) : path_(path) {}
  ~Server() { close(); }

  void open() {
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, path_.c_str(), path_.size());
    (void)::unlink(path_.c_str());
    CHECK(::bind(listener_, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0 && ::listen(listener_, 16) == 0);
    thread_ = std::thread([this] { serve(); });
  }
  // As when its process dies: everybody hears it.
  void close() {
    if (listener_ < 0) return;
    (void)::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
    listener_ = -1;
    (void)::unlink(path_.c_str());
    for (const int fd : clients_) ::close(fd);
    clients_.clear();
  }
  std::atomic<std::uint64_t> size = kSize;
  std::atomic<std::uint16_t> flags = kOffers;
  std::atomic<bool> refuses = false;
  std::atomic<int> handshakes = 0;
  std::atomic<bool> knows_attachments = true;
  // What each connection said about that; empty: nothing.
  std::vector<std::string> attachments() {
    const std::lock_guard guard(lock_);
    return attachments_;
  }

 private:
  void serve() {
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      std::uint8_t in[256];
      (void)::send(fd, "NBDMAGICIHAVEOPT\0\3", 18, MSG_NOSIGNAL);
      std::string told;
      // Flags, and GO for "photos"; before that, perhaps, an attachment.
      bool is_good = ::recv(fd, in, 4 + 16, MSG_WAITALL) == 20;
      if (is_good && load32(in + 12) == 0x54525641) {
        std::uint8_t answer[20] = {0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, 'T', 'R', 'V', 'A'};
        store32(answer + 12, knows_attachments ? 1 : 0x80000001);
        is_good = load32(in + 16) == 16 && ::recv(fd, in, 16, MSG_WAITALL) == 16;
        told.assign(reinterpret_cast<char*>(in), 16);
        (void)::send(fd, answer, sizeof answer, MSG_NOSIGNAL);
        is_good = is_good && ::recv(fd, in + 4, 16, MSG_WAITALL) == 16;
      }
      {
        const std::lock_guard guard(lock_);
        attachments_.push_back(told);
      }
      if (!is_good || ::recv(fd, in + 20, 14, MSG_WAITALL) != 14 || load32(in + 12) != 7 ||
          std::memcmp(in + 24, "photos", 6) != 0) {
        ::close(fd);
        continue;
      }
      handshakes += 1;
      std::uint8_t out[52] = {0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 12};
      store64(out + 22, size);
      store16(out + 30, flags);
      std::memcpy(out + 32, out, 12);
      store32(out + 44, 1);
      if (refuses) {
        store32(out + 12, 0x80000007);
        store32(out + 16, 0);
        (void)::send(fd, out, 20, MSG_NOSIGNAL);
        ::close(fd);
        continue;
      }
      (void)::send(fd, out, sizeof out, MSG_NOSIGNAL);
      clients_.push_back(fd);
    }
  }
  std::string path_;
  int listener_ = -1;
  std::thread thread_;
  std::vector<int> clients_;
  std::mutex lock_;
  std::vector<std::string> attachments_;
};

// The driver: takes RECONFIGURE, and tells of connections that died.
class Kernel {
 public:
  Kernel() {
    int ends[2];
    CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    asked_ = ends[0];
    requests_fd = ends[1];
    CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    tells_ = ends[0];
    events_fd = ends[1];
    thread_ = std::thread([this] { answer(); });
  }
  ~Kernel() {
    (void)::shutdown(asked_, SHUT_RDWR);
    thread_.join();
    for (const int fd : {asked_, tells_, taken.load()}) ::close(fd);
  }
  void say(const Buffer& datagram) { CHECK(::send(tells_, datagram.data(), datagram.size(), MSG_NOSIGNAL) > 0); }
  void link_dead(std::uint32_t index) {
    say({28, 0, 0, 0, kFamily, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 8, 0, 1, 0, static_cast<std::uint8_t>(index), 0, 0, 0});
  }
  int requests_fd = -1;
  int events_fd = -1;
  std::atomic<int> error = 0;
  std::atomic<int> reconfigured = 0;
  // A copy of the socket that it was given last.
  std::atomic<int> taken = -1;
  bool wants_backend = true;
  std::atomic<bool> sets_times = false;
  // So many CONNECTs are refused at first.
  std::atomic<int> busy = 0;
  std::atomic<int> connected = 0;
  std::atomic<int> disconnected = 0;
  Buffer connect_body;
  std::function<void()> on_connect;
  std::function<void()> on_disconnect;

 private:
  void answer() {
    std::uint8_t in[1024];
    for (;;) {
      const ssize_t length = ::recv(asked_, in, sizeof in, 0);
      if (length <= 0) return;
      Messages messages(Bytes{in, static_cast<std::size_t>(length)});
      Message message;
      CHECK(messages.next(message));
      Buffer ack = {36, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
      ack.resize(36);
      std::memcpy(ack.data() + 8, &message.sequence, 4);
      int answered = error;
      if (message.type == 0x10) {
        // The family's numbers.
        reply(message.sequence, 0x10, {1,  2, 0, 0,    8,  0, 2, 0,    'n', 'b', 'd', 0, 6,   0,   1,   0,   kFamily, 0,   0,   0,  36,  0,
                                       7,  0x80, 32, 0, 1, 0x80, 8,  0,   2,   0,   6, 0,   0,   0,   17,  0,       1,   0,   'n', 'b', 'd',
                                       '_', 'm', 'c', '_', 'g', 'r', 'o', 'u', 'p', 0, 0, 0, 0});
        answered = 0;
      } else if (answered == 0) {
        answered = take(message);
      }
      std::memcpy(ack.data() + 16, &answered, 4);
      CHECK(::send(asked_, ack.data(), ack.size(), MSG_NOSIGNAL) > 0);
    }
  }
  void reply(std::uint32_t sequence, std::uint16_t type, const Buffer& body) {
    Buffer out(16);
    out[0] = static_cast<std::uint8_t>(16 + body.size());
    std::memcpy(out.data() + 4, &type, 2);
    std::memcpy(out.data() + 8, &sequence, 4);
    out.insert(out.end(), body.begin(), body.end());
    CHECK(::send(asked_, out.data(), out.size(), 0) > 0);
  }
  int take(const Message& message) {
    Generic generic;
    CHECK(message.type == kFamily && read_generic(message, generic));
    if (generic.command == NBD_CMD_DISCONNECT) {
      disconnected += 1;
      if (on_disconnect) on_disconnect();
      return 0;
    }
    if (generic.command == NBD_CMD_CONNECT) {
      if (busy > 0) return busy -= 1, -EBUSY;
      connect_body.assign(generic.attributes.begin(), generic.attributes.end());
      connected += 1;
      if (on_connect) on_connect();
      reply(message.sequence, kFamily, {1, 1, 0, 0, 8, 0, 1, 0, kIndex, 0, 0, 0});
      return 0;
    }
    CHECK(generic.command == NBD_CMD_RECONFIGURE);
    reconfigure(generic);
    return 0;
  }
  void reconfigure(const Generic& generic) {
    Attributes attributes(generic.attributes);
    Attribute one;
    bool has_backend = false;
    std::uint32_t index = 0;
    while (attributes.next(one)) {
      // The size is never repeated: it could be an older one.
      CHECK(one.type != NBD_ATTR_SIZE_BYTES && one.type != NBD_ATTR_BLOCK_SIZE_BYTES);
      if (one.type == NBD_ATTR_INDEX) CHECK(one.u32(index) && index == kIndex);
      if (one.type == NBD_ATTR_DEAD_CONN_TIMEOUT) sets_times = true;
      if (one.type == 10) has_backend = one.text() == "trivet/photos";
      if (one.type != NBD_ATTR_SOCKETS) continue;
      Attribute item;
      Attribute fd;
      std::uint32_t number = 0;
      CHECK(Attributes(one.data).next(item) && item.type == NBD_SOCK_ITEM);
      CHECK(Attributes(item.data).next(fd) && fd.type == NBD_SOCK_FD && fd.u32(number));
      const int copy = ::fcntl(static_cast<int>(number), F_DUPFD_CLOEXEC, 0);
      CHECK(copy >= 0 && (::fcntl(copy, F_GETFL) & O_NONBLOCK) == 0);
      const int before = taken.exchange(copy);
      if (before >= 0) ::close(before);
    }
    CHECK(!attributes.is_broken() && has_backend == wants_backend);
    reconfigured += 1;
  }
  int asked_ = -1;
  int tells_ = -1;
  std::thread thread_;
};

// All of it, with the loop in a thread.
class Stage {
 public:
  explicit Stage(bool has_socket = true)
      : requests_(kernel.requests_fd, false),
        events_(kernel.events_fd, false),
        nbd_(requests_),
        files_(folder.root(), kIndex),
        log_(null_, false) {
    CHECK(parse_address("unix:" + path_, address_));
    CHECK(nbd_.find() == 0 && nbd_.family().id == kFamily && nbd_.family().group == 6);
    terms_.address = &address_;
    terms_.name = "photos";
    terms_.attachment = &attachment_;
    terms_.size_bytes = kSize;
    terms_.flags = kOffers;
    terms_.backend = "trivet/photos";
    terms_.link_dead_ms = 200;
    terms_.retry_first_ms = 5;
    terms_.retry_max_ms = 20;
    terms_.refused_retry_ms = 30;
    terms_.look_ms = 50;
    server.open();
    int socket = -1;
    if (has_socket) {
      Dial dial(address_, "photos", &attachment_);
      CHECK(finish_dial(dial, now_ms() + 5000, -1) && dial.state() == Dial::State::kDone);
      CHECK(dial.handshake().offered().size_bytes == kSize);
      socket = dial.release();
    }
    socket_ = socket;
  }
  ~Stage() {
    if (thread_.joinable()) CHECK(end() == Ending::kStopped);
    ::close(stop_);
    ::close(null_);
  }
  void start(Companion* companion = nullptr) {
    thread_ = std::thread([this, companion] {
      Supervisor supervisor(nbd_, events_, files_, terms_, log_, nullptr, socket_);
      ending_ = supervisor.run(stop_, companion);
      is_over = true;
    });
    ::usleep(20'000);
  }
  Ending end() {
    const std::uint64_t one = 1;
    CHECK(::write(stop_, &one, sizeof one) == sizeof one);
    thread_.join();
    return ending_;
  }
  Ending join() {
    thread_.join();
    return ending_;
  }
  bool connects(int count, int ms = 3000) {
    return within(ms, [&] { return kernel.reconfigured == count; });
  }
  SuperviseTerms& terms() { return terms_; }
  const DeviceFiles& files() const { return files_; }

  Folder folder;
  Kernel kernel;
  std::atomic<bool> is_over = false;

 private:
  const std::string path_ = std::string(folder.root()) + "/run/nbd.sock";

 public:
  Server server{path_};

 private:
  int null_ = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  int stop_ = ::eventfd(0, EFD_CLOEXEC);
  int socket_ = -1;
  Link requests_;
  Link events_;
  Nbd nbd_;
  DeviceFiles files_;
  Log log_;
  Address address_;
  const AttachmentId attachment_ = {'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p'};
  SuperviseTerms terms_;
  std::thread thread_;
  Ending ending_ = Ending::kGivenUp;
};

}  // namespace attach_stage
