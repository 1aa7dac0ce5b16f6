#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace attach {

// One JSON object on one line. For answers of commands; nothing that runs while the device is attached uses it.
class JsonLine {
 public:
  JsonLine& text(std::string_view key, std::string_view value);
  JsonLine& number(std::string_view key, std::uint64_t value);
  JsonLine& flag(std::string_view key, bool value);
  // A value that is JSON already.
  JsonLine& raw(std::string_view key, std::string_view value);
  // With braces, without an end of line.
  [[nodiscard]] std::string finish() const { return "{" + line_ + "}"; }

 private:
  void key(std::string_view name);
  std::string line_;
};

// Writes the line and its end to standard output; what cannot be written is lost with whoever was to read it.
void print(const JsonLine& line);

}  // namespace attach
