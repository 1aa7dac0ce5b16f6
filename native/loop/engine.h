#pragma once
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

// What the loop needs from whoever carries out its operations: io_uring, or plain system calls.
namespace loop {

enum class FileCall : std::uint8_t { read, write, write_vector, sync, data_sync };

// One system call on a file. `vectors` must stay until the operation is answered.
struct FileStep {
  FileCall call;
  bool may_wait;  // the call said EAGAIN before: do it where waiting hurts nobody
  int fd;
  std::byte* at;
  std::size_t length;
  std::uint64_t offset;
  const iovec* vectors;
  unsigned vector_count;
};

enum class Kind : std::uint8_t { receive, send, file };

struct Answer {
  Kind kind;
  std::uint32_t index;
  std::int32_t result;  // of the system call: a count, or a negative errno
};

// Socket operations never wait (MSG_DONTWAIT): they are carried out at the latest in `submit`, and what
// they refer to may be reused after it. File operations may take as long as they like.
class Engine {
 public:
  Engine() noexcept = default;
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  virtual void receive(std::uint32_t index, int fd, std::byte* to, std::size_t length) noexcept = 0;
  // `message` must stay until `submit`.
  virtual void send(std::uint32_t index, int fd, const msghdr* message) noexcept = 0;
  virtual void file(std::uint32_t index, const FileStep& step) noexcept = 0;
  virtual void submit() noexcept = 0;
  // To be called when `watch_fd` was readable, before `drain`.
  virtual void collect() noexcept = 0;
  // Takes answers, as many as fit; fewer than fit means that there are no more for now.
  [[nodiscard]] virtual std::size_t drain(std::span<Answer> out) noexcept = 0;
  // To be called when nothing more is done for now: from here on `watch_fd` reports. True when something was
  // answered before it could.
  [[nodiscard]] virtual bool rest() noexcept = 0;
  // Becomes readable, edge by edge, when a file operation is answered outside `submit`.
  [[nodiscard]] virtual int watch_fd() const noexcept = 0;
  // Waits until nothing is in flight, then releases everything.
  virtual void close() noexcept = 0;
};

}  // namespace loop
