#include "ring/ring.h"
#include "test/engine_trial.h"

int main() {
  ring::Ring engine;
  const int error = engine.open();
  if (error == -ENOSYS || error == -EPERM) {
    std::printf("skipped, the kernel offers no io_uring: ");
    return 0;
  }
  CHECK(error == 0);
  CHECK(engine.open() == -EBUSY);
  try_sockets(engine);
  try_files(engine);
  return 0;
}
