#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>

#include "attach/log.h"
#include "attach/settle.h"
#include "attach/time.h"
#include "test/attach_stage.h"
#include "test/check.h"

// The loop that keeps a device connected, and what happens before it.

namespace {

using namespace attach_stage;

void reconnects_after_a_death() {
  Stage stage;
  stage.start();
  for (int round = 1; round <= 3; round++) {
    stage.server.close();
    stage.kernel.link_dead(kIndex);
    stage.server.open();
    CHECK(stage.connects(round));
    // The kernel's copy is a working connection to the new server.
    CHECK(::send(stage.kernel.taken, "x", 1, MSG_NOSIGNAL) == 1);
  }
  // One connection each: nothing was tried that was not needed.
  ::usleep(300'000);
  CHECK(stage.kernel.reconfigured == 3 && stage.server.handshakes == 4);
}

void tells_each_server_who_it_is() {
  for (const bool knows : {true, false}) {
    Stage stage;
    stage.server.knows_attachments = knows;
    stage.start();
    for (int round = 1; round <= 2; round++) {
      stage.server.close();
      stage.kernel.link_dead(kIndex);
      stage.server.open();
      CHECK(stage.connects(round));
    }
    CHECK(stage.server.attachments() == std::vector<std::string>(3, "abcdefghijklmnop"));
  }
}

void waits_for_a_server() {
  Stage stage;
  stage.start();
  stage.server.close();
  stage.kernel.link_dead(kIndex);
  ::usleep(300'000);
  CHECK(stage.kernel.reconfigured == 0 && !stage.is_over);
  stage.server.open();
  CHECK(stage.connects(1));
}

void needs_no_notice() {
  // The kernel's notice is lost: the end of the connection alone is enough, but the kernel gets its time to see it.
  Stage stage;
  stage.start();
  const std::int64_t from = now_ms();
  stage.server.close();
  stage.server.open();
  CHECK(stage.connects(1));
  CHECK(now_ms() - from >= 190);
}

void hears_only_its_own() {
  Stage stage;
  stage.start();
  stage.kernel.link_dead(kIndex + 1);
  stage.kernel.say(Buffer(5, 0xff));
  stage.kernel.say(Buffer(70'000, 0));
  stage.kernel.say({20, 0, 0, 0, kFamily, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0});
  ::usleep(100'000);
  CHECK(stage.kernel.reconfigured == 0 && stage.server.handshakes == 1);
  // The kernel gives a connection up that we think well of, such as one that is silent for too long.
  stage.kernel.link_dead(kIndex);
  CHECK(stage.connects(1));
}

void never_another_volume() {
  Stage stage;
  stage.start();
  stage.server.close();
  stage.kernel.link_dead(kIndex);
  stage.server.size = kSize + 4096;
  stage.server.open();
  CHECK(within(3000, [&] { return stage.server.handshakes >= 3; }));
  stage.server.size = kSize - 4096;
  ::usleep(100'000);
  stage.server.size = kSize;
  stage.server.flags = kOffers | kReadOnlyFlag;
  ::usleep(100'000);
  stage.server.flags = kOffers & ~kFlushFlag;
  ::usleep(100'000);
  stage.server.refuses = true;
  ::usleep(100'000);
  CHECK(stage.kernel.reconfigured == 0);
  stage.server.flags = kOffers | 0x100;
  stage.server.refuses = false;
  CHECK(stage.connects(1));
}

void a_kernel_that_says_no() {
  Stage stage;
  stage.kernel.error = -EINVAL;
  stage.start();
  stage.server.close();
  stage.kernel.link_dead(kIndex);
  stage.server.open();
  CHECK(within(3000, [&] { return stage.server.handshakes >= 3; }));
  CHECK(!stage.is_over);
  stage.kernel.error = 0;
  CHECK(stage.connects(1));
}

void ends_with_the_device() {
  {
    Stage stage;
    stage.start();
    stage.folder.remove("pid");
    CHECK(stage.join() == Ending::kGone);
  }
  {
    // Detached and attached by somebody else.
    Stage stage;
    stage.start();
    stage.folder.write("pid", "78");
    CHECK(stage.join() == Ending::kGone);
  }
  {
    // Not to be able to look is not to see it gone.
    Stage stage;
    stage.start();
    const std::string pid = std::string(stage.folder.root()) + "/sys/block/nbd3/pid";
    CHECK(::mkdir((pid + "x").c_str(), 0755) == 0);
    CHECK(::renameat2(AT_FDCWD, pid.c_str(), AT_FDCWD, (pid + "x").c_str(), RENAME_EXCHANGE) == 0);
    ::usleep(200'000);
    CHECK(!stage.is_over);
  }
  {
    // Detaching closes the connection, and the kernel says nothing of it. Nobody connects again.
    Stage stage;
    stage.terms().look_ms = 60'000;
    stage.start();
    stage.folder.remove("pid");
    stage.server.close();
    CHECK(stage.join() == Ending::kGone);
    CHECK(stage.kernel.reconfigured == 0);
  }
}

void adopted() {
  // Somebody else's socket: only the kernel's notices tell.
  Stage stage(false);
  stage.terms().knows_flags = false;
  stage.start();
  stage.server.close();
  stage.server.open();
  ::usleep(300'000);
  CHECK(stage.kernel.reconfigured == 0);
  // Four connections died; each is replaced.
  for (int i = 0; i < 4; i++) stage.kernel.link_dead(kIndex);
  CHECK(stage.connects(4));
  stage.server.flags = kOffers | kReadOnlyFlag;
  stage.kernel.link_dead(kIndex);
  ::usleep(200'000);
  CHECK(stage.kernel.reconfigured == 4);
  stage.folder.write("ro", "1");
  CHECK(stage.connects(5));
}

class Watcher final : public Settling {
 public:
  using Settling::Settling;
  std::atomic<int> outcome = 0;
  std::string why;

 private:
  bool settled(const char* problem) noexcept override {
    if (problem != nullptr) why = problem;
    outcome = problem == nullptr ? 1 : 2;
    return problem == nullptr;
  }
};

void settles() {
  SettleTerms terms;
  terms.size_bytes = kSize;
  terms.read_ahead_kib = 4096;
  terms.max_request_kib = 1024;
  terms.patience_ms = 2000;
  {
    Stage stage;
    for (const char* name : {"uevent", "queue/read_ahead_kb", "queue/max_sectors_kb"}) stage.folder.write(name, "");
    stage.folder.write("queue/max_hw_sectors_kb", "512");
    stage.folder.write("size", "0");
    Watcher watcher(stage.files(), terms);
    CHECK(watcher.start() == 0);
    stage.start(&watcher);
    ::usleep(100'000);
    CHECK(watcher.outcome == 0);
    stage.folder.write("size", std::to_string(kSize / 512));
    ::usleep(50'000);
    CHECK(watcher.outcome == 0);
    stage.folder.put("/dev/nbd3", std::string(8192, 'x'));
    CHECK(within(3000, [&] { return watcher.outcome == 1; }));
    CHECK(stage.folder.get("queue/read_ahead_kb") == "4096");
    CHECK(stage.folder.get("queue/max_sectors_kb") == "512");
    CHECK(stage.folder.get("uevent") == "change");
    // It goes on supervising.
    stage.server.close();
    stage.server.open();
    CHECK(stage.connects(1));
  }
  {
    Stage stage;
    Watcher watcher(stage.files(), terms);
    CHECK(watcher.start() == 0);
    stage.start(&watcher);
    CHECK(stage.join() == Ending::kGivenUp);
    CHECK(watcher.outcome == 2 && watcher.why == "the device cannot be opened (No such file or directory)");
  }
}

void waits_for_udev() {
  Folder folder;
  CHECK(wait_for_udev(folder.root(), now_ms()));
  CHECK(::mkdir((std::string(folder.root()) + "/run/udev").c_str(), 0755) == 0);
  folder.put("/run/udev/queue", "");
  // Left behind by one that does not run.
  CHECK(wait_for_udev(folder.root(), now_ms()));
  folder.put("/run/udev/control", "");
  CHECK(!wait_for_udev(folder.root(), now_ms() + 60));
  std::thread udev([&] {
    ::usleep(60'000);
    CHECK(::unlink((std::string(folder.root()) + "/run/udev/queue").c_str()) == 0);
  });
  CHECK(wait_for_udev(folder.root(), now_ms() + 3000));
  udev.join();
}

void logs_without_waiting() {
  for (const bool is_socket : {true, false}) {
    int ends[2];
    CHECK((is_socket ? ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) : ::pipe2(ends, O_CLOEXEC)) == 0);
    Log log(ends[1], false);
    log.line(Log::Level::kInfo, "number %d", 7);
    log.about("nbd3");
    log.line(Log::Level::kWarning, "%s", std::string(2000, 'x').c_str());
    char text[1024] = {};
    const ssize_t length = ::read(ends[0], text, sizeof text);
    const std::string_view said(text, static_cast<std::size_t>(length));
    CHECK(said.starts_with("trivet-attach: number 7\ntrivet-attach: nbd3: xxx"));
    CHECK(said.ends_with("xxx\n") && said.size() == 24 + 511);
    // Nobody reads: it goes on all the same.
    for (int i = 0; i < 5000; i++) log.line(Log::Level::kInfo, "%s", std::string(400, 'y').c_str());
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

}  // namespace

int main() {
  waits_for_udev();
  logs_without_waiting();
  reconnects_after_a_death();
  tells_each_server_who_it_is();
  waits_for_a_server();
  needs_no_notice();
  hears_only_its_own();
  never_another_volume();
  a_kernel_that_says_no();
  ends_with_the_device();
  adopted();
  settles();
  return 0;
}
