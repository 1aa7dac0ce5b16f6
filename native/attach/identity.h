#pragma once
#include <array>
#include <cstdint>

// What tells a server that connections belong together. The kernel's device has one connection; when that is given up while
// the server still holds a write of it, that write must not come after those of the next one, so the server ends a connection
// when the next one with the same id is used.
//
// The id is that of the machine: it has to be the same for whoever supervises the device next, also after it was detached and
// attached again under another number, and after the machine died and came back sooner than the server noticed. A volume
// is attached once to a machine, and servers compare within one export.
namespace attach {

// Eight letters that say what it was made of, and a hash of that. It is no secret, and proves nothing.
using AttachmentId = std::array<std::uint8_t, 16>;

// `root` stands before the paths that are looked at.
[[nodiscard]] AttachmentId attachment_id(const char* root) noexcept;

}  // namespace attach
