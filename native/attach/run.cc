#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "attach/commands.h"
#include "attach/json.h"
#include "attach/protect.h"
#include "attach/report.h"
#include "attach/settle.h"
#include "attach/supervisor.h"
#include "attach/time.h"
#include "sys/sys.h"

namespace attach {

namespace {

constexpr std::uint32_t kBlockBytesMax = 4096;
// CONNECT is refused while udev still looks at what was attached there before.
constexpr std::int64_t kBusyMs = 5'000;

int open_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int one : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals, one);
  if (::sigprocmask(SIG_BLOCK, &signals, nullptr) < 0) return -errno;
  const int fd = ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

int open_log(const Options& options) {
  if (!options.log_to_kernel) return STDERR_FILENO;
  const int fd = ::open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
  return fd < 0 ? STDERR_FILENO : fd;
}

// Written beside it and renamed, so that nobody reads half of it.
int write_record(const Options& options, const DeviceFiles& device) {
  if (options.record == nullptr) return 0;
  JsonLine line;
  line.text("device", device.node())
      .number("pid", static_cast<std::uint64_t>(::getpid()))
      .text("volume", options.volume)
      .text("server", options.server->text)
      .text("export", options.name);
  const std::string text = line.finish() + "\n";
  const std::string beside = std::string(options.record) + ".new";
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return -errno;
  const bool is_written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = is_written ? 0 : -errno;
  ::close(fd);
  if (error < 0) return error;
  return ::rename(beside.c_str(), options.record) < 0 ? -errno : 0;
}

// One attachment from its handshake to its end.
class Attachment final {
 public:
  Attachment(const Options& options, Nbd& nbd, Link& events, Log& log, int stop_fd)
      : options_(options),
        nbd_(nbd),
        events_(events),
        log_(log),
        stop_fd_(stop_fd),
        id_(attachment_id(options.root)) {}
  ~Attachment() {
    if (socket_ >= 0) ::close(socket_);
  }

  int run();

 private:
  int reach();
  int choose_sizes();
  int connect();
  int adopt();
  int supervise();
  void announce(const DeviceFiles& device);

  const Options& options_;
  Nbd& nbd_;
  Link& events_;
  Log& log_;
  int stop_fd_;
  const AttachmentId id_;
  // What servers are told of it. Nullptr for a device that somebody attached with several connections: those do not end each other.
  const AttachmentId* attachment_ = &id_;
  int socket_ = -1;
  Export export_;
  std::uint32_t block_bytes_ = 0;
  std::uint64_t size_bytes_ = 0;
  std::uint32_t index_ = 0;
  char subject_[16] = {};
};

int Attachment::run() {
  int status = reach();
  if (status == 0) status = choose_sizes();
  if (status == 0) status = options_.adopt ? adopt() : connect();
  return status == 0 ? supervise() : status;
}

int Attachment::reach() {
  const char* where = options_.server->text;
  const std::int64_t deadline = now_ms() + std::int64_t{options_.patience_seconds} * 1000;
  if (options_.adopt && DeviceFiles(options_.root, *options_.device).has_several_connections()) attachment_ = nullptr;
  Dial dial(*options_.server, options_.name, attachment_);
  if (!finish_dial(dial, deadline, stop_fd_))
    return failed(options_, Code::kTimeout, 0, "%s takes the connection and does not answer within %u s", where,
                  options_.patience_seconds);
  if (const int failure = dial_failed(options_, dial); failure != 0) return failure;
  export_ = dial.handshake().offered();
  socket_ = dial.release();
  return 0;
}

int Attachment::choose_sizes() {
  const std::uint32_t preferred = std::clamp<std::uint32_t>(export_.preferred_bytes, 512, kBlockBytesMax);
  block_bytes_ = options_.block_bytes.value_or((preferred & (preferred - 1)) == 0 ? preferred : 512);
  // A rest that is no whole block cannot be read on some kernels, so nobody gets to write there.
  size_bytes_ = export_.size_bytes / block_bytes_ * block_bytes_;
  if (size_bytes_ == 0 || export_.size_bytes > INT64_MAX)
    return failed(options_, Code::kDevice, 0, "the export has %" PRIu64 " bytes, which makes no device",
                  export_.size_bytes);
  if (size_bytes_ != export_.size_bytes)
    log_.line(Log::Level::kWarning, "the last %" PRIu64 " bytes are no whole block of %u and are left out",
              export_.size_bytes - size_bytes_, block_bytes_);
  return 0;
}

int Attachment::connect() {
  ConnectTerms terms;
  terms.index = options_.device;
  terms.size_bytes = size_bytes_;
  terms.block_bytes = block_bytes_;
  terms.flags = export_.flags;
  terms.timeout_seconds = options_.timeout_seconds;
  terms.dead_seconds = options_.dead_seconds;
  terms.backend = options_.backend;
  terms.socket = socket_;
  const std::int64_t deadline = now_ms() + kBusyMs;
  for (;;) {
    const int error = nbd_.connect(terms, index_);
    if (error == 0) break;
    if (error == -EPERM)
      return failed(options_, Code::kPermission, -error, "the kernel does not let this user attach devices");
    if (error != -EBUSY) return failed(options_, Code::kDevice, -error, "the kernel does not take the connection");
    const bool is_attached = options_.device.has_value() && DeviceFiles(options_.root, *options_.device).attached_by() > 0;
    if (is_attached || now_ms() >= deadline)
      return failed(options_, Code::kDeviceBusy, 0, "/dev/nbd%u is in use", options_.device.value_or(0));
    pollfd wait{stop_fd_, POLLIN, 0};
    if (::poll(&wait, 1, 100) > 0) return failed(options_, Code::kDeviceBusy, 0, "stopped while the device was in use");
  }
  return 0;
}

// The device exists. If its connection is dead our socket takes its place; otherwise the kernel drops it.
int Attachment::adopt() {
  index_ = *options_.device;
  const DeviceFiles device(options_.root, index_);
  if (device.attached_by() <= 0)
    return failed(options_, Code::kNotAttached, 0, "%s is not attached, so it cannot be adopted", device.node());
  block_bytes_ = device.block_bytes();
  size_bytes_ = device.size_bytes();
  if (size_bytes_ == 0 || block_bytes_ == 0 || export_.size_bytes / block_bytes_ * block_bytes_ != size_bytes_)
    return failed(options_, Code::kDevice, 0,
                  "%s has %" PRIu64 " bytes and the export %" PRIu64 ": they are not the same volume", device.node(),
                  size_bytes_, export_.size_bytes);
  ReconfigureTerms terms;
  terms.index = index_;
  terms.timeout_seconds = options_.timeout_seconds;
  terms.dead_seconds = options_.dead_seconds;
  char backend[256];
  terms.backend = device.backend(backend, sizeof backend);
  terms.socket = socket_;
  const int error = nbd_.reconfigure(terms);
  if (error == -EPERM)
    return failed(options_, Code::kPermission, -error, "the kernel does not let this user attach devices");
  if (error < 0)
    return failed(options_, Code::kDevice, -error,
                  "the kernel does not make %s reconnectable; one that was attached with nbd-client -nonetlink cannot be",
                  device.node());
  // Whether the kernel uses it is not known, so that its end would mean nothing.
  ::close(socket_);
  socket_ = -1;
  return 0;
}

void Attachment::announce(const DeviceFiles& device) {
  const int error = write_record(options_, device);
  if (error < 0)
    log_.line(Log::Level::kWarning, "%s cannot be written (%s)", options_.record, ::strerrordesc_np(-error));
  if (options_.plain) {
    log_.line(Log::Level::kInfo, "attached to %s, %" PRIu64 " bytes in blocks of %u", options_.server->text, size_bytes_,
              block_bytes_);
  } else {
    JsonLine line;
    line.text("attached", device.node())
        .number("index", index_)
        .number("size", size_bytes_)
        .number("block", block_bytes_)
        .number("pid", static_cast<std::uint64_t>(::getpid()))
        .flag("readOnly", (export_.flags & kReadOnlyFlag) != 0);
    print(line);
  }
  // Whoever started us in the background waits for this, or for the end of our output.
  const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (null >= 0) {
    (void)::dup2(null, STDOUT_FILENO);
    ::close(null);
  }
}

int Attachment::supervise() {
  const DeviceFiles device(options_.root, index_);
  std::snprintf(subject_, sizeof subject_, "nbd%u", index_);
  log_.about(subject_);
  const char* notify_socket = options_.notify ? std::getenv("NOTIFY_SOCKET") : nullptr;
  char backend[256];

  SuperviseTerms terms;
  terms.address = &*options_.server;
  terms.name = options_.name;
  terms.attachment = attachment_;
  terms.size_bytes = size_bytes_;
  terms.block_bytes = block_bytes_;
  terms.flags = export_.flags;
  terms.knows_flags = !options_.adopt;
  terms.backend = options_.adopt ? device.backend(backend, sizeof backend) : options_.backend;
  terms.dead_seconds = options_.dead_seconds;

  SettleTerms settle;
  settle.size_bytes = size_bytes_;
  settle.read_ahead_kib = options_.read_ahead_kib;
  settle.max_request_kib = options_.max_request_kib;

  class Settled final : public Settling {
   public:
    Settled(Attachment& owner, const DeviceFiles& files, const SettleTerms& wanted, const char* notify)
        : Settling(files, wanted), owner_(owner), files_(files), notify_(notify) {}
    int exit_status = 0;
    bool is_ready = false;

   private:
    bool settled(const char* problem) noexcept override {
      if (problem != nullptr) {
        exit_status = failed(owner_.options_, Code::kDevice, 0, "%s: %s", files_.node(), problem);
        return false;
      }
      is_ready = true;
      owner_.announce(files_);
      if (notify_ != nullptr) (void)sys::notify(notify_, "READY=1\nSTATUS=connected");
      return true;
    }
    Attachment& owner_;
    const DeviceFiles& files_;
    const char* notify_;
  };
  Settled settling(*this, device, settle, notify_socket);
  Supervisor supervisor(nbd_, events_, device, terms, log_, notify_socket, socket_);
  socket_ = -1;
  const int error = settling.start();
  Ending ending = Ending::kGivenUp;
  if (error < 0) settling.exit_status = failed(options_, Code::kDevice, -error, "no child can be started");
  else ending = supervisor.run(stop_fd_, &settling);
  switch (ending) {
    case Ending::kStopped:
      if (!settling.is_ready && !options_.adopt) {
        (void)nbd_.disconnect(index_);
        return failed(options_, Code::kDevice, 0, "stopped before %s was ready; it was detached again", device.node());
      }
      log_.line(Log::Level::kInfo, "stopped; the device stays attached and is not reconnected any more");
      return 0;
    case Ending::kGone:
      log_.line(Log::Level::kInfo, "the device was detached");
      if (options_.record != nullptr) (void)::unlink(options_.record);
      return 0;
    case Ending::kGivenUp:
      // What somebody else attached is left as it is.
      if (!options_.adopt) (void)nbd_.disconnect(index_);
      return settling.exit_status == 0 ? 70 : settling.exit_status;
  }
  return 70;
}

}  // namespace

int run(const Options& options) {
  const int stop_fd = open_signals();
  if (stop_fd < 0) return failed(options, Code::kDevice, -stop_fd, "signals cannot be received");
  int requests_fd = -1;
  int events_fd = -1;
  int status = open_kernel(options, requests_fd);
  if (status != 0) return status;
  static Log log(open_log(options), options.log_to_kernel);
  // Static: their room is large, and they are to be there before memory is locked.
  static Link requests(requests_fd, true);
  static Nbd nbd(requests);
  status = find_family(options, nbd);
  if (status != 0) return status;
  status = open_kernel(options, events_fd);
  if (status != 0) return status;
  static Link events(events_fd, true);
  const int error = events.join(nbd.family().group);
  if (error < 0) return failed(options, Code::kDevice, -error, "the kernel's notices cannot be heard");
  protect(log);
  return run_with(options, nbd, events, log, stop_fd);
}

int run_with(const Options& options, Nbd& nbd, Link& events, Log& log, int stop_fd) {
  Attachment attachment(options, nbd, events, log, stop_fd);
  return attachment.run();
}

}  // namespace attach
