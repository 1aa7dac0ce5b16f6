#include <fcntl.h>
#include <linux/nbd-netlink.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "attach/commands.h"
#include "attach/time.h"
#include "test/attach_stage.h"
#include "test/check.h"

// The commands `run` and `disconnect` from their options to their line of JSON and their exit status.

namespace {

using namespace attach_stage;

// What is written to standard output until `end`.
class Output {
 public:
  Output() : before_(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0)) {
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    from_ = ends[0];
    CHECK(::dup2(ends[1], STDOUT_FILENO) == STDOUT_FILENO);
    ::close(ends[1]);
  }
  ~Output() {
    CHECK(::dup2(before_, STDOUT_FILENO) == STDOUT_FILENO);
    ::close(before_);
    ::close(from_);
  }
  // Waits for the end of the output, or of its line.
  std::string line() {
    std::string text;
    char c = 0;
    while (::read(from_, &c, 1) == 1 && c != '\n') text += c;
    return text;
  }

 private:
  int before_;
  int from_ = -1;
};

// Everything around one `run`.
class Scene {
 public:
  explicit Scene(std::vector<std::string> more = {}) : requests_(kernel.requests_fd, false), events_(kernel.events_fd, false), nbd_(requests_) {
    CHECK(nbd_.find() == 0);
    for (const char* name : {"uevent", "queue/read_ahead_kb", "queue/max_sectors_kb"}) folder.write(name, "");
    CHECK(::mkdir((std::string(folder.root()) + "/etc").c_str(), 0755) == 0);
    folder.put("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    folder.put("/dev/nbd3", std::string(8192, 'x'));
    folder.remove("pid");
    folder.write("size", "0");
    kernel.on_connect = [this] {
      folder.write("size", std::to_string(kSize / 512));
      folder.write("pid", "77");
    };
    kernel.on_disconnect = [this] {
      if (folder.get("pid") != "") folder.remove("pid");
    };
    record = std::string(folder.root()) + "/run/photos.json";
    words_ = {"trivet-attach", "run", "--server", "unix:" + path_, "--export", "photos", "--root", folder.root(), "--record", record};
    for (const char* word : {"--volume", "my \"photos\"", "--backend", "trivet/photos", "--dead-timeout", "60", "--patience", "1"}) words_.push_back(word);
    words_.insert(words_.end(), more.begin(), more.end());
  }
  ~Scene() {
    ::close(stop_);
    ::close(null_);
  }
  int run() {
    Options options;
    parse(options);
    Log log(null_, false);
    return run_with(options, nbd_, events_, log, stop_);
  }
  int disconnect(bool force) {
    words_ = {"trivet-attach", "disconnect", "3", "--root", folder.root()};
    if (force) words_.push_back("--force");
    Options options;
    parse(options);
    return disconnect_with(options, nbd_);
  }
  void stop() {
    const std::uint64_t one = 1;
    CHECK(::write(stop_, &one, sizeof one) == sizeof one);
  }
  // A number that CONNECT carried.
  std::uint64_t sent(std::uint16_t type) {
    Attributes attributes(Bytes{kernel.connect_body});
    Attribute one;
    while (attributes.next(one)) {
      if (one.type != type) continue;
      std::uint64_t value = 0;
      std::memcpy(&value, one.data.data(), std::min(sizeof value, one.data.size()));
      return value;
    }
    return ~0ULL;
  }
  std::string attachment() {
    const AttachmentId id = attachment_id(folder.root());
    CHECK(std::memcmp(id.data(), "machine:", 8) == 0);
    return std::string(reinterpret_cast<const char*>(id.data()), id.size());
  }
  std::string read_record() {
    char text[1024] = {};
    return read_line(record.c_str(), text, sizeof text) < 0 ? "" : text;
  }

  Folder folder;
  Kernel kernel;
  std::string record;

 private:
  void parse(Options& options) {
    std::vector<char*> pointers;
    for (std::string& word : words_) pointers.push_back(word.data());
    char problem[256];
    CHECK(parse_options(static_cast<int>(pointers.size()), pointers.data(), options, problem));
  }
  const std::string path_ = std::string(folder.root()) + "/run/nbd.sock";
  std::vector<std::string> words_;

 public:
  Server server{path_};

 private:
  int null_ = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  int stop_ = ::eventfd(0, EFD_CLOEXEC);
  Link requests_;
  Link events_;
  Nbd nbd_;
};

// A service manager's end.
int manager(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.c_str(), path.size());
  CHECK(::bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
  CHECK(::setenv("NOTIFY_SOCKET", path.c_str(), 1) == 0);
  return fd;
}
std::string told(int fd) {
  char text[256] = {};
  CHECK(::recv(fd, text, sizeof text - 1, 0) > 0);
  return text;
}

void attaches() {
  Scene scene({"--notify"});
  const int notices = manager(std::string(scene.folder.root()) + "/run/notify");
  scene.server.open();
  Output output;
  int status = -1;
  std::thread run([&] { status = scene.run(); });
  const std::string pid = std::to_string(::getpid());
  CHECK(output.line() == "{\"attached\":\"/dev/nbd3\",\"index\":3,\"size\":1048576,\"block\":512,\"pid\":" + pid + ",\"readOnly\":false}");
  // Nothing more is said, and who waits for the end of the output has it.
  CHECK(output.line().empty());
  CHECK(scene.sent(NBD_ATTR_INDEX) == ~0ULL && scene.sent(NBD_ATTR_SIZE_BYTES) == kSize);
  CHECK(scene.sent(NBD_ATTR_BLOCK_SIZE_BYTES) == 512 && scene.sent(NBD_ATTR_SERVER_FLAGS) == kOffers);
  CHECK(scene.sent(NBD_ATTR_TIMEOUT) == 0 && scene.sent(NBD_ATTR_DEAD_CONN_TIMEOUT) == 60);
  CHECK(scene.read_record().starts_with("{\"device\":\"/dev/nbd3\",\"pid\":" + pid + ",\"volume\":\"my \\\"photos\\\"\",\"server\":\"unix:/tmp/"));
  CHECK(scene.read_record().ends_with("\"export\":\"photos\"}"));
  CHECK(told(notices) == "READY=1\nSTATUS=connected");
  // The server is restarted.
  scene.server.close();
  scene.kernel.link_dead(kIndex);
  scene.server.open();
  CHECK(within(3000, [&] { return scene.kernel.reconfigured == 1; }));
  CHECK(!scene.kernel.sets_times);
  CHECK(told(notices) == "STATUS=connection lost, connecting again");
  CHECK(told(notices) == "STATUS=connected");
  // Of the same attachment; whoever adopts it says the same.
  CHECK(scene.server.attachments() == std::vector<std::string>(2, scene.attachment()));
  // Stopped, it leaves everything as it is.
  scene.stop();
  run.join();
  CHECK(status == 0 && scene.kernel.disconnected == 0 && !scene.read_record().empty());
  ::close(notices);
}

void ends_when_detached() {
  Scene scene({"--device", "3", "--block-size", "4096"});
  scene.server.open();
  scene.kernel.busy = 2;
  Output output;
  int status = -1;
  std::thread run([&] { status = scene.run(); });
  CHECK(output.line().find("\"block\":4096") != std::string::npos);
  CHECK(scene.sent(NBD_ATTR_INDEX) == 3 && scene.sent(NBD_ATTR_BLOCK_SIZE_BYTES) == 4096);
  scene.folder.remove("pid");
  scene.server.close();
  run.join();
  CHECK(status == 0 && scene.read_record().empty() && scene.kernel.reconfigured == 0);
}

// What `run` prints and answers when nothing comes of it.
void fails(Scene& scene, int status, std::string_view start) {
  Output output;
  CHECK(scene.run() == status);
  const std::string line = output.line();
  if (!line.starts_with(start)) std::fprintf(stderr, "%s\n", line.c_str());
  CHECK(line.starts_with(start));
  CHECK(scene.read_record().empty());
}

void failures() {
  {
    Scene scene;
    fails(scene, 5, "{\"error\":\"TRIVET_E_DIAL\",\"detail\":\"unix:/tmp/");
    CHECK(scene.kernel.connected == 0);
  }
  {
    Scene scene;
    scene.server.refuses = true;
    scene.server.open();
    fails(scene, 5, "{\"error\":\"TRIVET_E_REFUSED\"");
  }
  {
    Scene scene;
    scene.server.size = 511;
    scene.server.open();
    fails(scene, 4, "{\"error\":\"TRIVET_E_DEVICE\",\"detail\":\"the export has 511 bytes");
  }
  {
    Scene scene;
    scene.server.open();
    scene.kernel.error = -EPERM;
    fails(scene, 4, "{\"error\":\"TRIVET_E_PERMISSION\"");
  }
  {
    Scene scene;
    scene.server.open();
    scene.kernel.error = -EINVAL;
    fails(scene, 4, "{\"error\":\"TRIVET_E_DEVICE\",\"detail\":\"the kernel does not take the connection (Invalid argument)\",\"errno\":22}");
  }
  {
    // Attached by somebody else: there is no waiting for that.
    Scene scene({"--device", "3"});
    scene.server.open();
    scene.folder.write("pid", "99");
    scene.kernel.busy = 1000;
    const std::int64_t from = now_ms();
    fails(scene, 4, "{\"error\":\"TRIVET_E_DEVICE_BUSY\",\"detail\":\"/dev/nbd3 is in use\"");
    CHECK(now_ms() - from < 1000);
  }
  {
    // What was attached and is of no use is detached again.
    Scene scene;
    scene.server.open();
    CHECK(::unlink((std::string(scene.folder.root()) + "/dev/nbd3").c_str()) == 0);
    CHECK(::mkdir((std::string(scene.folder.root()) + "/dev/nbd3").c_str(), 0755) == 0);
    fails(scene, 4, "{\"error\":\"TRIVET_E_DEVICE\",\"detail\":\"/dev/nbd3: the device cannot be read (Is a directory)\"");
    CHECK(scene.kernel.disconnected == 1);
  }
}

void adopts() {
  // By nbd-client, without a name of its own, and perhaps with more connections: those do not succeed one another.
  for (const int connections : {1, 2}) {
    Scene scene({"--device", "3", "--adopt"});
    scene.server.open();
    CHECK(::mkdir((std::string(scene.folder.root()) + "/sys/block/nbd3/mq").c_str(), 0755) == 0);
    for (int i = 0; i < connections; i++) scene.folder.write("mq/" + std::to_string(i), "");
    scene.kernel.wants_backend = false;
    scene.folder.write("pid", "812");
    scene.folder.write("size", std::to_string(kSize / 512));
    scene.folder.write("queue/logical_block_size", "4096");
    Output output;
    int status = -1;
    std::thread run([&] { status = scene.run(); });
    CHECK(output.line().find("\"attached\":\"/dev/nbd3\",\"index\":3,\"size\":1048576,\"block\":4096") != std::string::npos);
    CHECK(scene.kernel.connected == 0 && scene.kernel.reconfigured == 1 && scene.kernel.sets_times);
    scene.server.close();
    scene.kernel.link_dead(kIndex);
    scene.server.open();
    CHECK(within(3000, [&] { return scene.kernel.reconfigured == 2; }));
    CHECK(scene.server.attachments() == std::vector<std::string>(2, connections == 1 ? scene.attachment() : ""));
    scene.stop();
    run.join();
    CHECK(status == 0);
  }
  {
    Scene scene({"--device", "3", "--adopt"});
    scene.server.open();
    fails(scene, 4, "{\"error\":\"TRIVET_E_NOT_ATTACHED\"");
    scene.folder.write("pid", "812");
    scene.folder.write("queue/logical_block_size", "4096");
    scene.folder.write("size", "4096");
    fails(scene, 4, "{\"error\":\"TRIVET_E_DEVICE\",\"detail\":\"/dev/nbd3 has 2097152 bytes and the export 1048576: they are not the same volume\"");
    CHECK(scene.kernel.reconfigured == 0);
    scene.folder.write("size", std::to_string(kSize / 512));
    scene.kernel.error = -EINVAL;
    fails(scene, 4, "{\"error\":\"TRIVET_E_DEVICE\",\"detail\":\"the kernel does not make /dev/nbd3 reconnectable");
  }
}

void detaches() {
  for (const bool force : {false, true}) {
    Scene scene;
    scene.folder.write("pid", "77");
    {
      Output output;
      CHECK(scene.disconnect(force) == 0);
      CHECK(output.line() == "{\"disconnected\":\"/dev/nbd3\"}");
      CHECK(scene.kernel.disconnected == 1);
    }
    Output output;
    CHECK(scene.disconnect(force) == 4);
    CHECK(output.line().starts_with("{\"error\":\"TRIVET_E_NOT_ATTACHED\""));
  }
  Scene scene;
  scene.folder.write("pid", "77");
  CHECK(::unlink((std::string(scene.folder.root()) + "/dev/nbd3").c_str()) == 0);
  {
    Output output;
    CHECK(scene.disconnect(false) == 4);
    CHECK(output.line().starts_with("{\"error\":\"TRIVET_E_DEVICE\",\"detail\":\"/dev/nbd3 cannot be opened"));
    CHECK(scene.kernel.disconnected == 0);
  }
  Output output;
  CHECK(scene.disconnect(true) == 0);
}

}  // namespace

int main() {
  attaches();
  ends_when_detached();
  failures();
  adopts();
  detaches();
  return 0;
}
