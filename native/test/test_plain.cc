#include "plain/plain.h"
#include "test/engine_trial.h"

int main() {
  plain::Plain engine;
  CHECK(engine.open() == 0);
  CHECK(engine.open() == -EBUSY);
  try_sockets(engine);
  try_files(engine);
  return 0;
}
