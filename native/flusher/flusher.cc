// trivet-flusher PROGRAM [ARGS …]: becomes PROGRAM, which from then on gets memory without waiting for disks, and with
// which the kernel is patient when there is much to be written.
//
// A process through which the kernel writes dirty pages must not wait for memory that those pages take up. PR_SET_IO_FLUSHER
// (Linux 5.6) says that; it holds for one thread, and for what that thread starts later. Node starts threads before any code of
// ours, so it has to be said before Node: here. It takes CAP_SYS_RESOURCE, which is of no use afterwards, so every capability is given up.
//
// When the kernel refuses, this says so and goes on: a server without it is right on any host that has memory to spare.
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace {

constexpr int kUsage = 2;
// As a shell has them.
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;

// Capabilities that came from the unit would be handed on. Root's are its own, and it gets them with every program anew.
int give_up_capabilities() noexcept {
  if (::geteuid() == 0) return 0;
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return errno;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  return ::syscall(SYS_capset, &header, none) < 0 ? errno : 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::fputs("usage: trivet-flusher PROGRAM [ARGS ...]\n", stderr);
    return kUsage;
  }
  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
    std::fprintf(stderr,
                 "trivet-flusher: memory may have to wait for disks (PR_SET_IO_FLUSHER: %s). It takes Linux 5.6 and "
                 "CAP_SYS_RESOURCE.\n",
                 std::strerror(errno));
  if (const int error = give_up_capabilities(); error != 0) {
    std::fprintf(stderr, "trivet-flusher: capabilities cannot be given up (%s)\n", std::strerror(error));
    return kNotExecutable;
  }
  ::execvp(arguments[1], arguments + 1);
  const int error = errno;
  std::fprintf(stderr, "trivet-flusher: %s: %s\n", arguments[1], std::strerror(error));
  return error == ENOENT ? kNotFound : kNotExecutable;
}
