#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "attach/address.h"

namespace attach {

struct Range {
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
};

// What was typed. Texts point into argv.
struct Options {
  std::string_view command;
  std::optional<Address> server;
  std::string_view name;
  // Absent: the kernel's choice, or all.
  std::optional<std::uint32_t> device;
  // Absent: what the server prefers.
  std::optional<std::uint32_t> block_bytes;
  std::uint64_t timeout_seconds = 0;
  std::uint64_t dead_seconds = 600;
  std::uint32_t read_ahead_kib = 4096;
  std::uint32_t max_request_kib = 1024;
  std::uint32_t patience_seconds = 30;
  std::string_view backend;
  // What the record of the attachment calls the volume, and the file that holds it.
  std::string_view volume;
  const char* record = nullptr;
  const char* root = "";
  std::vector<Range> ranges;
  bool notify = false;
  bool adopt = false;
  bool force = false;
  bool plain = false;
  bool log_to_kernel = false;
};

// False, with a sentence in `problem`, for what makes no sense.
[[nodiscard]] bool parse_options(int count, char** words, Options& out, char (&problem)[256]);

extern const char kHelp[];

}  // namespace attach
