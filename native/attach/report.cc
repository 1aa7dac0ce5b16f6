#include "attach/report.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "attach/json.h"

namespace attach {

namespace {

struct Row {
  const char* name;
  int status;
};

Row row(Code code) {
  switch (code) {
    case Code::kUsage:
      return {"TRIVET_E_USAGE", 2};
    case Code::kNoNbd:
      return {"TRIVET_E_NO_NBD", 4};
    case Code::kPermission:
      return {"TRIVET_E_PERMISSION", 4};
    case Code::kDeviceBusy:
      return {"TRIVET_E_DEVICE_BUSY", 4};
    case Code::kDevice:
      return {"TRIVET_E_DEVICE", 4};
    case Code::kNotAttached:
      return {"TRIVET_E_NOT_ATTACHED", 4};
    case Code::kDial:
      return {"TRIVET_E_DIAL", 5};
    case Code::kTimeout:
      return {"TRIVET_E_TIMEOUT", 5};
    case Code::kProtocol:
      return {"TRIVET_E_NBD_PROTOCOL", 5};
    case Code::kRefused:
      return {"TRIVET_E_REFUSED", 5};
  }
  return {"TRIVET_BUG", 70};
}

}  // namespace

int failed(const Options& options, Code code, int error, const char* format, ...) {
  char text[640];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (error != 0) {
    const std::size_t at = std::strlen(text);
    std::snprintf(text + at, sizeof text - at, " (%s)", ::strerrordesc_np(error));
  }
  const auto [name, status] = row(code);
  if (options.plain) {
    std::fprintf(stderr, "%s: %s\n", name, text);
  } else {
    JsonLine line;
    line.text("error", name).text("detail", text).number("errno", static_cast<std::uint64_t>(error));
    print(line);
  }
  return status;
}

}  // namespace attach
