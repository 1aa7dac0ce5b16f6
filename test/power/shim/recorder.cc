// Preloaded into a program (LD_PRELOAD), it writes down every call that changes or syncs files below one directory, with
// the data, and what goes through sockets; each call once before it is made and once after. One record is
// one append to the log, so records of all threads and processes lie in one order, which is that in which things happened.
// What it cannot describe it reports as `foreign`, and the reader of the log refuses the recording.
//
//   RECORD_LOG     where to
//   RECORD_DIR     an absolute path; what lies outside is nobody's business
//   RECORD_SKIP    part of the name of a library whose own calls are recorded by somebody else
//   RECORD_DIE     the process kills itself before its n-th sync of a file
//   RECORD_PAUSE   microseconds that each sync is late
//
// A record: u32 length of all of it, u8 kind, u8 phase, u16 0, u32 process, u32 call, i32 descriptor, i32 flags,
// (of a sync: 1 when data suffices),
// i64 number (offset, size or result), u32 length of the path, u32 length of the data, path, data.
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

enum class Kind : std::uint8_t {
  open = 1, close, write, truncate, sync, sync_all, make_directory, rename, unlink, send, receive, marker, foreign, remove_directory,
};
enum class Phase : std::uint8_t { begin, end, whole };

struct [[gnu::packed]] Head {
  std::uint32_t length;
  Kind kind;
  Phase phase;
  std::uint16_t zero;
  std::uint32_t process, call;
  std::int32_t fd, flags;
  std::int64_t number;
  std::uint32_t path_length, data_length;
};

enum : std::uint8_t { kNothing, kFile, kDirectory, kSocket };
constexpr int kDescriptors = 65536;
constexpr int kPieces = 600;

std::array<std::atomic<std::uint8_t>, kDescriptors> descriptors;
std::array<std::atomic<ino_t>, kDescriptors> inodes;
std::atomic<std::uint32_t> calls{0};
std::atomic<long> syncs{0};
// No objects with constructors: `start` may run before those would.
const char* directory = nullptr;
const char* skipped = nullptr;
int log_file = -1;
long die_at = 0;
long pause_us = 0;

template <typename F>
F real(const char* name) {
  return reinterpret_cast<F>(::dlsym(RTLD_NEXT, name));
}
// The next function of that name, looked up once.
#define REAL(name) static const auto next = real<decltype(&::name)>(#name)

[[gnu::constructor]] void start() {
  const char* log = std::getenv("RECORD_LOG");
  const char* where = std::getenv("RECORD_DIR");
  if (log == nullptr || where == nullptr) return;
  directory = where;
  skipped = std::getenv("RECORD_SKIP");
  if (const char* at = std::getenv("RECORD_DIE")) die_at = std::atol(at);
  if (const char* us = std::getenv("RECORD_PAUSE")) pause_us = std::atol(us);
  static const auto open_log = real<int (*)(const char*, int, ...)>("open");
  log_file = open_log(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (log_file < 0) std::abort();
}

void put(Kind kind, Phase phase, std::uint32_t call, int fd, int flags, std::int64_t number, std::string_view path,
         const iovec* data, int count) {
  const int before = errno;
  std::array<iovec, kPieces + 2> all;
  std::size_t bytes = 0;
  if (count > kPieces) std::abort();
  for (int i = 0; i < count; i++) {
    all[static_cast<std::size_t>(i) + 2] = data[i];
    bytes += data[i].iov_len;
  }
  const auto length = sizeof(Head) + path.size() + bytes;
  Head head{static_cast<std::uint32_t>(length), kind, phase, 0, static_cast<std::uint32_t>(::getpid()), call, fd, flags,
            number, static_cast<std::uint32_t>(path.size()), static_cast<std::uint32_t>(bytes)};
  all[0] = {&head, sizeof head};
  all[1] = {const_cast<char*>(path.data()), path.size()};
  static const auto append = real<decltype(&::writev)>("writev");
  if (append(log_file, all.data(), count + 2) != static_cast<ssize_t>(length)) std::abort();
  errno = before;
}

bool recording() { return log_file >= 0; }
// Not every close is made through libc, so a number may have come to stand for something else.
std::uint8_t kind_of(int fd) {
  if (!recording() || fd < 0 || fd >= kDescriptors) return kNothing;
  const std::uint8_t kind = descriptors[static_cast<std::size_t>(fd)];
  if (kind != kFile && kind != kDirectory) return kind;
  struct stat about{};
  const bool is_same = ::fstat(fd, &about) == 0 && about.st_ino == inodes[static_cast<std::size_t>(fd)] &&
                       S_ISDIR(about.st_mode) == (kind == kDirectory);
  return is_same ? kind : std::uint8_t{kNothing};
}
bool is_ours(int fd) { return kind_of(fd) == kFile || kind_of(fd) == kDirectory; }

std::string absolute(int at, const char* path) {
  if (path[0] == '/') return path;
  std::array<char, 4096> base{};
  const std::string link = at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/" + std::to_string(at);
  const ssize_t length = ::readlink(link.c_str(), base.data(), base.size() - 1);
  return length < 0 ? path : std::string(base.data(), static_cast<std::size_t>(length)) + "/" + path;
}
bool is_ours(const std::string& path) {
  if (!recording() || !path.starts_with(directory)) return false;
  const std::size_t length = std::strlen(directory);
  return path.size() == length || path[length] == '/';
}
void foreign(const char* what, std::string_view path = {}) {
  put(Kind::foreign, Phase::whole, 0, -1, 0, 0, std::string(what) + " " + std::string(path), nullptr, 0);
}
bool is_skipped(void* caller) {
  Dl_info info{};
  return skipped != nullptr && ::dladdr(caller, &info) != 0 && info.dli_fname != nullptr &&
         std::strstr(info.dli_fname, skipped) != nullptr;
}
#define CALLER __builtin_return_address(0)

// One call: its beginning is in the log from here on, its end when `end` is called.
struct Call {
  Kind kind;
  std::uint32_t number = ++calls;
  Call(Kind what, int fd, int flags, std::int64_t value, std::string_view path = {}, const iovec* data = nullptr, int count = 0)
      : kind(what) {
    put(kind, Phase::begin, number, fd, flags, value, path, data, count);
  }
  template <typename T>
  T end(T result, int fd = -1) {
    put(kind, Phase::end, number, fd, result < 0 ? errno : 0, static_cast<std::int64_t>(result), {}, nullptr, 0);
    return result;
  }
};

int opened(int file) {
  if (file < 0 || file >= kDescriptors) return file;
  struct stat about{};
  const bool is_directory = ::fstat(file, &about) == 0 && S_ISDIR(about.st_mode);
  inodes[static_cast<std::size_t>(file)] = about.st_ino;
  descriptors[static_cast<std::size_t>(file)] = is_directory ? kDirectory : kFile;
  return file;
}
template <typename F>
int open_recorded(int at, const char* path, int flags, F call) {
  if (!recording()) return call();
  const std::string full = absolute(at, path);
  if (!is_ours(full)) return call();
  if ((flags & (O_DIRECT | O_TMPFILE)) == O_DIRECT || (flags & O_TMPFILE) == O_TMPFILE) foreign("open", full);
  Call recorded(Kind::open, -1, flags, 0, full);
  return recorded.end(opened(call()));
}

template <typename F>
ssize_t write_recorded(void* caller, int fd, const iovec* data, int count, off_t offset, F call) {
  if (kind_of(fd) != kFile || is_skipped(caller)) return call();
  const bool moves = offset < 0;
  if (moves) {
    struct stat about{};
    const bool appends = (::fcntl(fd, F_GETFL) & O_APPEND) != 0;
    offset = appends && ::fstat(fd, &about) == 0 ? about.st_size : ::lseek(fd, 0, SEEK_CUR);
  }
  Call recorded(Kind::write, fd, 0, offset, {}, data, count);
  return recorded.end(call());
}

template <typename F>
int sync_recorded(void* caller, int fd, bool data_only, F call) {
  if (!is_ours(fd) || is_skipped(caller)) return call();
  if (kind_of(fd) == kFile && ++syncs == die_at) ::raise(SIGKILL);
  Call recorded(Kind::sync, fd, data_only ? 1 : 0, 0);
  if (pause_us > 0) ::usleep(static_cast<useconds_t>(pause_us));
  return recorded.end(call());
}

template <typename F>
int path_recorded(Kind kind, int at, const char* path, int flags, F call) {
  if (!recording()) return call();
  const std::string full = absolute(at, path);
  if (!is_ours(full)) return call();
  Call recorded(kind, -1, flags, 0, full);
  return recorded.end(call());
}
template <typename F>
int rename_recorded(int from_at, const char* from, int to_at, const char* to, unsigned flags, F call) {
  if (!recording()) return call();
  const std::string source = absolute(from_at, from);
  const std::string target = absolute(to_at, to);
  if (!is_ours(source) && !is_ours(target)) return call();
  if (flags != 0 || !is_ours(source) || !is_ours(target)) foreign("rename", target);
  Call recorded(Kind::rename, -1, 0, 0, source + '\0' + target);
  return recorded.end(call());
}
template <typename F>
int truncate_recorded(int fd, off_t size, F call) {
  if (kind_of(fd) != kFile) return call();
  Call recorded(Kind::truncate, fd, 0, size);
  return recorded.end(call());
}
template <typename F>
auto foreign_call(const char* what, bool is_recorded, F call) {
  if (is_recorded) foreign(what);
  return call();
}

// Blocks shared with another file by the file system: to a reader of the log they are written.
int clone_recorded(int fd, int source, const int result) {
  std::string all(1 << 16, '\0');
  off_t offset = 0;
  for (;;) {
    const ssize_t count = ::pread(source, all.data(), all.size(), offset);
    if (count <= 0) return result;
    const iovec piece{all.data(), static_cast<std::size_t>(count)};
    Call(Kind::write, fd, 0, offset, {}, &piece, 1).end(count);
    offset += count;
  }
}

}  // namespace

extern "C" {

#define OPEN(name)                                                              \
  int name(const char* path, int flags, ...) {                                  \
    va_list list;                                                               \
    va_start(list, flags);                                                      \
    const auto mode = va_arg(list, mode_t);                                     \
    va_end(list);                                                               \
    static const auto next = real<int (*)(const char*, int, ...)>(#name);       \
    return open_recorded(AT_FDCWD, path, flags, [&] { return next(path, flags, mode); }); \
  }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                                            \
  int name(int at, const char* path, int flags, ...) {                          \
    va_list list;                                                               \
    va_start(list, flags);                                                      \
    const auto mode = va_arg(list, mode_t);                                     \
    va_end(list);                                                               \
    static const auto next = real<int (*)(int, const char*, int, ...)>(#name);  \
    return open_recorded(at, path, flags, [&] { return next(at, path, flags, mode); }); \
  }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
  REAL(close);
  if (!recording() || fd < 0 || fd >= kDescriptors || descriptors[static_cast<std::size_t>(fd)] == kNothing) return next(fd);
  descriptors[static_cast<std::size_t>(fd)] = kNothing;
  put(Kind::close, Phase::whole, ++calls, fd, 0, 0, {}, nullptr, 0);
  return next(fd);
}

ssize_t write(int fd, const void* data, size_t length) {
  REAL(write);
  const iovec piece{const_cast<void*>(data), length};
  return write_recorded(CALLER, fd, &piece, 1, -1, [&] { return next(fd, data, length); });
}
ssize_t writev(int fd, const iovec* pieces, int count) {
  REAL(writev);
  return write_recorded(CALLER, fd, pieces, count, -1, [&] { return next(fd, pieces, count); });
}
#define PWRITE(name)                                                                                  \
  ssize_t name(int fd, const void* data, size_t length, off_t offset) {                               \
    REAL(name);                                                                                       \
    const iovec piece{const_cast<void*>(data), length};                                               \
    return write_recorded(CALLER, fd, &piece, 1, offset, [&] { return next(fd, data, length, offset); }); \
  }
PWRITE(pwrite)
PWRITE(pwrite64)
#define PWRITEV(name)                                                                                   \
  ssize_t name(int fd, const iovec* pieces, int count, off_t offset) {                                  \
    REAL(name);                                                                                         \
    return write_recorded(CALLER, fd, pieces, count, offset, [&] { return next(fd, pieces, count, offset); }); \
  }
PWRITEV(pwritev)
PWRITEV(pwritev64)
#define PWRITEV2(name)                                                                                         \
  ssize_t name(int fd, const iovec* pieces, int count, off_t offset, int flags) {                              \
    REAL(name);                                                                                                \
    return write_recorded(CALLER, fd, pieces, count, offset, [&] { return next(fd, pieces, count, offset, flags); }); \
  }
PWRITEV2(pwritev2)
PWRITEV2(pwritev64v2)

int fsync(int fd) {
  REAL(fsync);
  return sync_recorded(CALLER, fd, false, [&] { return next(fd); });
}
int fdatasync(int fd) {
  REAL(fdatasync);
  return sync_recorded(CALLER, fd, true, [&] { return next(fd); });
}
int syncfs(int fd) noexcept {
  REAL(syncfs);
  if (!is_ours(fd)) return next(fd);
  Call recorded(Kind::sync_all, fd, 0, 0);
  return recorded.end(next(fd));
}

int ftruncate(int fd, off_t size) noexcept {
  REAL(ftruncate);
  return truncate_recorded(fd, size, [&] { return next(fd, size); });
}
int ftruncate64(int fd, off_t size) noexcept {
  REAL(ftruncate64);
  return truncate_recorded(fd, size, [&] { return next(fd, size); });
}

int mkdir(const char* path, mode_t mode) noexcept {
  REAL(mkdir);
  return path_recorded(Kind::make_directory, AT_FDCWD, path, 0, [&] { return next(path, mode); });
}
int rmdir(const char* path) noexcept {
  REAL(rmdir);
  return path_recorded(Kind::remove_directory, AT_FDCWD, path, 0, [&] { return next(path); });
}
int unlink(const char* path) noexcept {
  REAL(unlink);
  return path_recorded(Kind::unlink, AT_FDCWD, path, 0, [&] { return next(path); });
}
int unlinkat(int at, const char* path, int flags) noexcept {
  REAL(unlinkat);
  const Kind kind = (flags & AT_REMOVEDIR) != 0 ? Kind::remove_directory : Kind::unlink;
  return path_recorded(kind, at, path, 0, [&] { return next(at, path, flags); });
}
int rename(const char* from, const char* to) noexcept {
  REAL(rename);
  return rename_recorded(AT_FDCWD, from, AT_FDCWD, to, 0, [&] { return next(from, to); });
}
int renameat(int from_at, const char* from, int to_at, const char* to) noexcept {
  REAL(renameat);
  return rename_recorded(from_at, from, to_at, to, 0, [&] { return next(from_at, from, to_at, to); });
}
int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) noexcept {
  REAL(renameat2);
  return rename_recorded(from_at, from, to_at, to, flags, [&] { return next(from_at, from, to_at, to, flags); });
}

int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list list;
  va_start(list, request);
  void* argument = va_arg(list, void*);
  va_end(list);
  static const auto next = real<int (*)(int, unsigned long, ...)>("ioctl");
  const int result = next(fd, request, argument);
  if (request != FICLONE || result != 0 || kind_of(fd) != kFile) return result;
  return clone_recorded(fd, static_cast<int>(reinterpret_cast<std::intptr_t>(argument)), result);
}

// What no reader of the log could follow.
int truncate(const char* path, off_t size) noexcept {
  REAL(truncate);
  return foreign_call("truncate", is_ours(absolute(AT_FDCWD, path)), [&] { return next(path, size); });
}
int link(const char* from, const char* to) noexcept {
  REAL(link);
  return foreign_call("link", is_ours(absolute(AT_FDCWD, to)), [&] { return next(from, to); });
}
int symlink(const char* from, const char* to) noexcept {
  REAL(symlink);
  return foreign_call("symlink", is_ours(absolute(AT_FDCWD, to)), [&] { return next(from, to); });
}
int fallocate(int fd, int mode, off_t offset, off_t length) {
  REAL(fallocate);
  return foreign_call("fallocate", is_ours(fd), [&] { return next(fd, mode, offset, length); });
}
int fallocate64(int fd, int mode, off_t offset, off_t length) {
  REAL(fallocate64);
  return foreign_call("fallocate", is_ours(fd), [&] { return next(fd, mode, offset, length); });
}
int posix_fallocate(int fd, off_t offset, off_t length) {
  REAL(posix_fallocate);
  return foreign_call("posix_fallocate", is_ours(fd), [&] { return next(fd, offset, length); });
}
ssize_t copy_file_range(int from, off64_t* from_at, int to, off64_t* to_at, size_t length, unsigned flags) {
  REAL(copy_file_range);
  return foreign_call("copy_file_range", is_ours(to), [&] { return next(from, from_at, to, to_at, length, flags); });
}
void* mmap(void* at, size_t length, int protection, int flags, int fd, off_t offset) noexcept {
  REAL(mmap);
  const bool writes = (flags & MAP_SHARED) != 0 && (protection & PROT_WRITE) != 0;
  return foreign_call("mmap", writes && is_ours(fd), [&] { return next(at, length, protection, flags, fd, offset); });
}
int dup(int fd) noexcept {
  REAL(dup);
  return foreign_call("dup", is_ours(fd), [&] { return next(fd); });
}

// Sockets: what the other side may take for a promise, and when.
ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  REAL(sendmsg);
  if (!recording() || is_skipped(CALLER)) return next(fd, message, flags);
  if (fd < kDescriptors) descriptors[static_cast<std::size_t>(fd)] = kSocket;
  Call recorded(Kind::send, fd, 0, 0, {}, message->msg_iov, static_cast<int>(message->msg_iovlen));
  return recorded.end(next(fd, message, flags));
}
ssize_t recv(int fd, void* to, size_t length, int flags) {
  REAL(recv);
  const ssize_t count = next(fd, to, length, flags);
  if (count <= 0 || !recording() || is_skipped(CALLER)) return count;
  if (fd < kDescriptors) descriptors[static_cast<std::size_t>(fd)] = kSocket;
  const iovec piece{to, static_cast<std::size_t>(count)};
  put(Kind::receive, Phase::whole, ++calls, fd, 0, count, {}, &piece, 1);
  return count;
}

}  // extern "C"
