#pragma once
#include "attach/dial.h"
#include "attach/link.h"
#include "attach/nbd.h"
#include "attach/options.h"

// The subcommands; each answers the exit status of the process.
namespace attach {

int run(const Options& options);
int disconnect(const Options& options);
int status(const Options& options);
int probe(const Options& options);

// A descriptor for asking the kernel, and the family's numbers in `nbd`: zero, or an exit status with everything said.
int open_kernel(const Options& options, int& fd);
int find_family(const Options& options, Nbd& nbd);
// An attempt that is over: zero when it succeeded.
int dial_failed(const Options& options, const Dial& dial);

}  // namespace attach
