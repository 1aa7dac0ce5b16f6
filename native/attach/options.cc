#include "attach/options.h"

#include <charconv>
#include <cstdio>
#include <cstring>

#include "attach/handshake.h"
#include "attach/nbd.h"

namespace attach {

const char kHelp[] =
    "trivet-attach: attaches NBD servers to the kernel and keeps them connected. trivet attach uses it.\n"
    "\n"
    "Usage: trivet-attach run --server ADDRESS [--export NAME] [--device N|auto] [options]\n"
    "       trivet-attach disconnect N [--force]\n"
    "       trivet-attach status [N]\n"
    "       trivet-attach probe --server ADDRESS [--export NAME] [--read OFFSET,LENGTH] ...\n"
    "\n"
    "Options:\n"
    "  --server ADDRESS      IP:PORT or unix:PATH\n"
    "  --export NAME         name of the export (default: the server's own choice)\n"
    "  --device N|auto       number of the device (default auto)\n"
    "  --block-size B        512, 1024, 2048 or 4096 (default: what the server prefers)\n"
    "  --timeout S           give a server up that is silent for so long; 0: never (default 0)\n"
    "  --dead-timeout S      how long requests wait while there is no server (default 600)\n"
    "  --read-ahead KIB      (default 4096; 0: as the kernel has it)\n"
    "  --max-request KIB     (default 1024; 0: as the kernel has it)\n"
    "  --patience S          how long the first handshake may take (default 30)\n"
    "  --adopt               the device is attached already: make it reconnectable and keep it connected\n"
    "  --backend TEXT        who the device belongs to, shown in sysfs\n"
    "  --record FILE         write device, process and volume there while attached\n"
    "  --volume NAME         for the record\n"
    "  --notify              tell the service manager when the device is there\n"
    "  --log kernel|stderr   where lines go (default stderr)\n"
    "  --plain               sentences instead of JSON\n"
    "  --force               disconnect: do not write back what is cached, and do not look who uses it\n"
    "  --root DIR            look for /proc, /sys, /dev and /run below DIR\n";

namespace {

template <typename T>
bool parse_number(std::string_view text, T& out, std::uint64_t least, std::uint64_t most) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) return false;
  out = static_cast<T>(value);
  return true;
}

bool parse_device(std::string_view text, std::optional<std::uint32_t>& out) {
  std::uint32_t index = 0;
  if (!parse_number(text, index, 0, kIndexMax)) return false;
  out = index;
  return true;
}

bool parse_block(std::string_view text, std::optional<std::uint32_t>& out) {
  std::uint32_t bytes = 0;
  if (!parse_number(text, bytes, 512, 4096) || (bytes & (bytes - 1)) != 0) return false;
  out = bytes;
  return true;
}

bool parse_range(std::string_view text, std::vector<Range>& out) {
  const std::size_t comma = text.find(',');
  Range range;
  if (comma == std::string_view::npos || out.size() >= 64) return false;
  if (!parse_number(text.substr(0, comma), range.offset, 0, INT64_MAX)) return false;
  if (!parse_number(text.substr(comma + 1), range.length, 1, 65536)) return false;
  out.push_back(range);
  return true;
}

// The kernel counts in jiffies: a day is far from where that overflows, and 0 of a dead timeout would mean no waiting
// at all.
constexpr std::uint64_t kSecondsMax = 86'400;

bool take(std::string_view name, const char* value, Options& out) {
  const std::string_view text = value;
  if (name == "--server") return parse_address(text, out.server.emplace());
  if (name == "--export") return out.name = text, text.size() <= kNameBytesMax;
  if (name == "--device") return text == "auto" || parse_device(text, out.device);
  if (name == "--block-size") return parse_block(text, out.block_bytes);
  if (name == "--timeout") return parse_number(text, out.timeout_seconds, 0, kSecondsMax);
  if (name == "--dead-timeout") return parse_number(text, out.dead_seconds, 1, kSecondsMax);
  if (name == "--read-ahead") return parse_number(text, out.read_ahead_kib, 0, 1 << 20);
  if (name == "--max-request") return parse_number(text, out.max_request_kib, 0, 32768);
  if (name == "--patience") return parse_number(text, out.patience_seconds, 1, kSecondsMax);
  if (name == "--backend") return out.backend = text, text.size() < 128;
  if (name == "--volume") return out.volume = text, text.size() < 1024;
  if (name == "--record") return out.record = value, !text.empty();
  if (name == "--root") return out.root = value, text.size() < 256;
  if (name == "--read") return parse_range(text, out.ranges);
  if (name == "--log") return out.log_to_kernel = text == "kernel", text == "kernel" || text == "stderr";
  return false;
}

bool* find_flag(std::string_view name, Options& out) {
  if (name == "--notify") return &out.notify;
  if (name == "--adopt") return &out.adopt;
  if (name == "--force") return &out.force;
  if (name == "--plain") return &out.plain;
  return nullptr;
}

bool has_value(std::string_view name) {
  for (const std::string_view known :
       {"--server", "--export", "--device", "--block-size", "--timeout", "--dead-timeout", "--read-ahead",
        "--max-request", "--patience", "--backend", "--volume", "--record", "--root", "--read", "--log"})
    if (name == known) return true;
  return false;
}

}  // namespace

bool parse_options(int count, char** words, Options& out, char (&problem)[256]) {
  const auto wrong = [&](const char* format, const char* word) {
    std::snprintf(problem, sizeof problem, format, word);
    return false;
  };
  if (count < 2) return wrong("%s", "a command is missing: run, disconnect, status or probe");
  out.command = words[1];
  if (out.command != "run" && out.command != "disconnect" && out.command != "status" && out.command != "probe")
    return wrong("there is no command %.80s", words[1]);
  for (int i = 2; i < count; i++) {
    const std::string_view word = words[i];
    if (bool* flag = find_flag(word, out); flag != nullptr) {
      *flag = true;
    } else if (has_value(word)) {
      if (i + 1 == count) return wrong("%.80s needs a value", words[i]);
      if (!take(word, words[i + 1], out)) {
        std::snprintf(problem, sizeof problem, "%.80s: %.120s is not possible", words[i], words[i + 1]);
        return false;
      }
      i += 1;
    } else if (!word.starts_with("-") && (out.command == "disconnect" || out.command == "status") &&
               !out.device.has_value()) {
      if (!parse_device(word, out.device)) return wrong("%.80s is no number of a device", words[i]);
    } else {
      return wrong("%.80s is not known here", words[i]);
    }
  }
  if ((out.command == "run" || out.command == "probe") && !out.server.has_value())
    return wrong("%s", "--server is missing");
  if (out.command == "disconnect" && !out.device.has_value()) return wrong("%s", "the number of the device is missing");
  if (out.adopt && !out.device.has_value()) return wrong("%s", "--adopt needs --device N");
  return true;
}

}  // namespace attach
