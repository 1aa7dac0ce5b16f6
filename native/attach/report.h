#pragma once
#include "attach/options.h"

namespace attach {

// Codes and exit statuses of failures; they are those of the table in src/base/fault.ts.
enum class Code : std::uint8_t {
  kUsage,
  kNoNbd,
  kPermission,
  kDeviceBusy,
  kDevice,
  kNotAttached,
  kDial,
  kTimeout,
  kProtocol,
  kRefused,
};

// Says what failed, as one line of JSON on standard output or as a sentence on standard error, and answers the exit
// status.
int failed(const Options& options, Code code, int error, const char* format, ...)
    __attribute__((format(printf, 4, 5)));

}  // namespace attach
