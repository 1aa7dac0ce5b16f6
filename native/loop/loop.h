#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "arena/arena.h"
#include "loop/engine.h"
#include "loop/source.h"

// Sockets, files and rows: the part that both engines share. One thread only; nothing here calls back.
//
// Requests come in rows of doubles, completions go out in rows of doubles; both arrays, and the vector
// table that gathered sends and writes refer to, are shared with src/host/driver.ts word for word.
namespace loop {

// Request row: operation, index, at, length, offset, tag.
inline constexpr std::size_t kRequestColumns = 6;
inline constexpr std::size_t kRequestRows = 2048;
enum class Request : std::uint8_t {
  receive = 1,            // slot, at, length: answered as soon as anything came
  receive_all = 2,        // slot, at, length: answered when all of it came
  send = 3,               // slot, first vector, vectors: answered when anything left
  accept = 4,             // listener: goes on after an error
  file_read = 5,          // descriptor, at, length, offset, tag
  file_write = 6,         // the same
  file_write_vector = 7,  // descriptor, first vector, vectors, offset, tag
  file_sync = 8,          // descriptor, –, –, –, tag
  file_data_sync = 9,
};

// Completion row: what, index, result. One more double behind the last row is 1 when another exchange has
// more to give without anything being staged, else 0.
inline constexpr std::size_t kCompletionColumns = 3;
inline constexpr std::size_t kCompletionRows = 8192;
enum class Completion : std::uint8_t {
  received = 1,   // slot, bytes (0: the peer has ended), or a negative errno
  sent = 2,       // slot, bytes, or a negative errno
  file = 3,       // tag, bytes (short only at the end of the file), or a negative errno
  connected = 4,  // slot, zero or a negative errno
  accepted = 5,   // listener, new slot, or a negative errno: then `accept` must be asked for again
  closed = 6,     // slot: nothing refers to its memory any more; the slot may be used again after this batch
  source = 7,     // tag, result: what these are is between the source and whoever asked it
};

inline constexpr std::size_t kVectorRows = 16384;  // pairs of at, length
inline constexpr std::size_t kSendVectors = 64;    // most that one send gathers
inline constexpr std::size_t kWriteVectors = 256;
inline constexpr std::size_t kFiles = 1024;  // most file operations at a time
inline constexpr std::size_t kSlots = 65536;

// A whole number out of a row; one that cannot be an index becomes the largest, which no range check lets through.
inline std::uint32_t index_of(double value) noexcept {
  return value >= 0 && value < 4294967295.0 ? static_cast<std::uint32_t>(value) : 0xffffffffU;
}

class Loop {
 public:
  Loop() noexcept = default;
  ~Loop() { close(); }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Both must outlive the loop, the engine until `close`.
  [[nodiscard]] int open(arena::Arena& arena, Engine& engine) noexcept;
  // From now on its answers are among the completion rows. It must outlive the loop, or `close`. Zero, or a negative errno.
  [[nodiscard]] int attach(Source& source) noexcept;
  // Waits for what is in flight; closes every socket. File descriptors of file operations are not ours.
  void close() noexcept;

  // Readable when `turn` has something to do.
  [[nodiscard]] int watch_fd() const noexcept { return epoll_; }

  // Takes over the descriptor. The slot, or a negative errno (then the descriptor is closed; a negative
  // `fd` is passed on).
  [[nodiscard]] int add_stream(int fd) noexcept;
  [[nodiscard]] int add_connecting(int fd) noexcept;
  [[nodiscard]] int add_listener(int fd) noexcept;
  // Always followed by one `closed` row, in a later exchange.
  void close_slot(std::uint32_t slot) noexcept;
  // Lets go of the socket without closing it: its descriptor, or a negative errno. `received`: bytes of a receive of known
  // length that have come. Followed by one `closed` row, like closing. Never while completion rows are handed out.
  [[nodiscard]] int detach(std::uint32_t slot, std::size_t& received) noexcept;
  // No more is sent; what was sent is delivered.
  void shut_down(std::uint32_t slot) noexcept;
  // −1 when there is no such socket.
  [[nodiscard]] int fd_of(std::uint32_t slot) const noexcept;

  // Carries out the first `staged` request rows and whatever else is ready; answers how many completion
  // rows it filled.
  [[nodiscard]] std::size_t exchange(std::size_t staged) noexcept;
  // Finds out which sockets have become ready, without waiting; true when any has.
  bool look() noexcept;
  // Both.
  [[nodiscard]] std::size_t turn() noexcept;
  [[nodiscard]] bool more() const noexcept { return more_; }

  [[nodiscard]] double* requests() noexcept { return requests_.data(); }
  [[nodiscard]] double* vectors() noexcept { return vectors_.data(); }
  [[nodiscard]] double* completions() noexcept { return completions_.data(); }

 private:
  enum class Phase : std::uint8_t { free, open, connecting, listening, closing };
  struct Socket {
    int fd = -1;
    Phase phase = Phase::free;
    bool readable = false;  // an edge came and no read since has found the end of what is there
    bool writable = false;
    bool ended = false;      // peer's end or an error: readable for ever
    bool receiving = false;  // JavaScript waits for bytes
    bool whole = false;      // … for all of them
    bool sending = false;
    bool queued = false;  // stands in ready_
    std::uint8_t in_flight = 0;
    std::byte* at = nullptr;
    std::size_t left = 0;
    std::size_t done = 0;
    std::size_t asked = 0;  // bytes of the send under way
    msghdr message{};
    std::unique_ptr<iovec[]> vectors;
  };
  struct File {
    FileStep step{};
    double tag = 0;
    std::size_t done = 0;
    std::unique_ptr<iovec[]> vectors;
  };

  [[nodiscard]] int add(int fd, Phase phase) noexcept;
  void recycle() noexcept;
  void apply(const double* row) noexcept;
  void apply_receive(const double* row, bool whole) noexcept;
  void apply_send(const double* row) noexcept;
  void apply_file(Request request, const double* row) noexcept;
  [[nodiscard]] std::size_t run() noexcept;
  void issue() noexcept;
  void issue_slot(std::uint32_t slot) noexcept;
  void accept_from(std::uint32_t slot) noexcept;
  void answer(const Answer& answer) noexcept;
  void answer_receive(std::uint32_t slot, Socket& socket, std::int32_t result) noexcept;
  void answer_send(std::uint32_t slot, Socket& socket, std::int32_t result) noexcept;
  void answer_file(std::uint32_t index, std::int32_t result) noexcept;
  void make_ready(std::uint32_t slot, Socket& socket) noexcept;
  void finish_close(std::uint32_t slot, Socket& socket) noexcept;
  void emit(Completion what, double index, double result) noexcept;
  [[nodiscard]] std::size_t room() const noexcept { return kCompletionRows - rows_; }
  [[nodiscard]] bool watch_engine() noexcept;
  void take_from_source() noexcept;
  void allow_inline() noexcept;
  void start_file(std::uint32_t index) noexcept;
  [[nodiscard]] bool try_inline(std::uint32_t index) noexcept;

  arena::Arena* arena_ = nullptr;
  Engine* engine_ = nullptr;
  Source* source_ = nullptr;
  int epoll_ = -1;
  bool watching_engine_ = false;
  bool more_ = false;
  bool continued_ = false;         // a file operation went on for the rest of its length
  std::size_t inline_left_ = 0;    // bytes of file operations that this exchange may still do at once
  double inline_writes_from_ = 0;  // seconds
  double inline_pause_ = 0;
  std::size_t rows_ = 0;
  std::vector<double> requests_;
  std::vector<double> vectors_;
  std::vector<double> completions_;
  std::deque<Socket> sockets_;  // a deque: sockets do not move while the engine refers to their messages
  std::vector<std::uint32_t> free_slots_;
  std::vector<std::uint32_t> closed_;   // their rows are still to be written
  std::vector<std::uint32_t> resting_;  // their rows are out, JavaScript may still be reading them
  std::deque<std::uint32_t> ready_;
  std::vector<File> files_;
  std::vector<std::uint32_t> free_files_;
};

}  // namespace loop
