#pragma once
#include <array>
#include <cstdint>

#include "attach/message.h"

// One socket to the kernel's generic netlink, or, in tests, to somebody who plays it over a pair of datagram sockets.
namespace attach {

class Link {
 public:
  // Takes the descriptor. Only the kernel's own socket is asked who has sent something.
  Link(int fd, bool is_kernel) noexcept : fd_(fd), is_kernel_(is_kernel) {}
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // A descriptor, or a negative errno.
  [[nodiscard]] static int open_kernel() noexcept;

  [[nodiscard]] int fd() const noexcept { return fd_; }
  // Hears what is sent to a multicast group from now on.
  [[nodiscard]] int join(std::uint32_t group) noexcept;
  // Sequence numbers are the link's own, so that an answer that comes late is never taken for another.
  [[nodiscard]] std::uint32_t next_sequence() noexcept { return ++sequence_; }

  // What comes with the answer to a request; not called for acknowledgements and errors.
  class Taker {
   public:
    virtual void take(const Message& message) noexcept = 0;

   protected:
    ~Taker() = default;
  };

  // Sends a request that asks for an acknowledgement and reads answers up to that, an error or the end of a
  // multi-part one.
  // Zero, or a negative errno: the kernel's, −ETIMEDOUT, or −EBADMSG for an answer that makes no sense.
  [[nodiscard]] int ask(Bytes request, std::uint32_t sequence, Taker* taker) noexcept;

  // One datagram if there is one: its length, 0 for none, −ENOBUFS when some were lost, or another negative errno.
  [[nodiscard]] int receive(Bytes& out) noexcept;

 private:
  int fd_;
  bool is_kernel_;
  std::uint32_t sequence_ = 0;
  // A status of a thousand devices needs 16 KiB.
  std::array<std::uint8_t, 64 * 1024> room_;
};

}  // namespace attach
