#pragma once
#include "attach/dial.h"
#include "attach/link.h"
#include "attach/log.h"
#include "attach/nbd.h"
#include "attach/options.h"

// The subcommands; each answers the exit status of the process.
namespace attach {

int run(const Options& options);
int disconnect(const Options& options);
int status(const Options& options);
int probe(const Options& options);

// The same from where the kernel can be asked: `events` has joined the family's group, `stop_fd` becomes readable
// when it is to end.
int run_with(const Options& options, Nbd& nbd, Link& events, Log& log, int stop_fd);
int disconnect_with(const Options& options, Nbd& nbd);

// A descriptor for asking the kernel, and the family's numbers in `nbd`: zero, or an exit status with everything said.
int open_kernel(const Options& options, int& fd);
int find_family(const Options& options, Nbd& nbd);
// An attempt that is over: zero when it succeeded.
int dial_failed(const Options& options, const Dial& dial);

}  // namespace attach
