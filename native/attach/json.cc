#include "attach/json.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace attach {

namespace {

// Bytes above 0x7f pass as they are: names come from JavaScript, as UTF-8.
void quote(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += escape;
    } else {
      out += c;
    }
  }
  out += '"';
}

}  // namespace

void JsonLine::key(std::string_view name) {
  if (!line_.empty()) line_ += ',';
  quote(line_, name);
  line_ += ':';
}
JsonLine& JsonLine::text(std::string_view name, std::string_view value) {
  key(name);
  quote(line_, value);
  return *this;
}
JsonLine& JsonLine::number(std::string_view name, std::uint64_t value) {
  key(name);
  line_ += std::to_string(value);
  return *this;
}
JsonLine& JsonLine::flag(std::string_view name, bool value) {
  key(name);
  line_ += value ? "true" : "false";
  return *this;
}
JsonLine& JsonLine::raw(std::string_view name, std::string_view value) {
  key(name);
  line_ += value;
  return *this;
}

void print(const JsonLine& line) {
  const std::string text = line.finish() + "\n";
  std::size_t at = 0;
  while (at < text.size()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data() + at, text.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return;
    at += static_cast<std::size_t>(written);
  }
}

}  // namespace attach
