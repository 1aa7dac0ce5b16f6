#pragma once
#include "attach/log.h"

namespace attach {

// Keeps this process able to work while the machine has no memory and its own device is what memory waits for: pages
// stay in memory, the kernel makes no I/O on our behalf to find some, and the OOM killer looks elsewhere. What is not
// permitted is said and left.
void protect(Log& log) noexcept;

}  // namespace attach
