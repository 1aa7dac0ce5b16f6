#include "attach/handshake.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "attach/big_endian.h"

namespace attach {

namespace {

constexpr std::uint64_t kNbdMagic = 0x4e42444d41474943;
constexpr std::uint64_t kOptionMagic = 0x49484156454f5054;
constexpr std::uint64_t kReplyMagic = 0x0003e889045565a9;
constexpr std::uint16_t kFixedNewstyle = 1;
constexpr std::uint16_t kNoZeroes = 2;
constexpr std::uint32_t kGo = 7;
// "TRVA", as in src/nbd/options.ts.
constexpr std::uint32_t kAttachment = 0x54525641;
constexpr std::uint32_t kAck = 1;
constexpr std::uint32_t kInfo = 3;
constexpr std::uint32_t kError = 0x80000000;
constexpr std::uint16_t kInfoExport = 0;
constexpr std::uint16_t kInfoBlockSize = 3;

constexpr std::size_t kGreetingBytes = 18;
constexpr std::size_t kHeaderBytes = 20;
constexpr std::size_t kOptionBytes = 16;
// Descriptions are 4096 bytes at most, errors a sentence.
constexpr std::uint32_t kDataBytesMax = 65536;
// There are four kinds of information.
constexpr std::uint32_t kRepliesMax = 64;

const char* refusal(std::uint32_t type) noexcept {
  switch (type) {
    case 0x80000001:
      return "the server does not know GO";
    case 0x80000002:
      return "the server forbids it";
    case 0x80000003:
      return "the server calls the request invalid";
    case 0x80000004:
      return "the server cannot do it on its system";
    case 0x80000005:
      return "the server wants TLS, which the kernel's client does not speak";
    case 0x80000006:
      return "the server has no such export";
    case 0x80000007:
      return "the server is stopping";
    case 0x80000008:
      return "the server wants to be asked for block sizes";
    case 0x80000009:
      return "the server calls the request too large";
    default:
      return "the server refuses";
  }
}

}  // namespace

Handshake::Handshake(std::string_view name, const AttachmentId* attachment) noexcept {
  has_attachment_ = attachment != nullptr;
  if (has_attachment_) attachment_ = *attachment;
  name_bytes_ = std::min(name.size(), name_.size());
  std::memcpy(name_.data(), name.data(), name_bytes_);
  expect(Step::kGreeting, kGreetingBytes);
}

Bytes Handshake::outgoing() const noexcept {
  if (state_ != State::kGoing) return {};
  return Bytes{out_.data() + out_sent_, out_bytes_ - out_sent_};
}

void Handshake::sent(std::size_t length) noexcept { out_sent_ = std::min(out_sent_ + length, out_bytes_); }

std::span<std::uint8_t> Handshake::room() noexcept {
  if (state_ != State::kGoing || out_sent_ < out_bytes_) return {};
  const std::size_t kept = std::min(wanted_, in_.size());
  if (have_ < kept) return {in_.data() + have_, kept - have_};
  return {dropped_.data(), std::min(wanted_ - have_, dropped_.size())};
}

void Handshake::received(std::size_t length) noexcept {
  if (state_ != State::kGoing) return;
  have_ += length;
  // A reply without data is complete at once.
  while (state_ == State::kGoing && have_ == wanted_ && out_sent_ == out_bytes_) {
    switch (step_) {
      case Step::kGreeting:
        greeting();
        return;
      case Step::kHeader:
        header();
        break;
      case Step::kData:
        reply();
        return;
    }
  }
}

void Handshake::expect(Step step, std::size_t length) noexcept {
  step_ = step;
  wanted_ = length;
  have_ = 0;
}

void Handshake::fail(Failure failure, const char* problem, Bytes said) noexcept {
  state_ = State::kFailed;
  failure_ = failure;
  const int length = std::snprintf(problem_.data(), problem_.size(), "%s%s", problem, said.empty() ? "" : ": ");
  std::size_t at = std::min(static_cast<std::size_t>(length), problem_.size() - 1);
  for (const std::uint8_t byte : said) {
    if (at + 1 >= problem_.size()) break;
    problem_[at++] = byte >= 0x20 && byte < 0x7f ? static_cast<char>(byte) : '?';
  }
  problem_[at] = '\0';
}

void Handshake::greeting() noexcept {
  if (load64(in_.data()) != kNbdMagic) return fail(Failure::kProtocol, "the server does not speak NBD");
  if (load64(in_.data() + 8) != kOptionMagic) return fail(Failure::kProtocol, "the server speaks oldstyle NBD");
  const std::uint16_t flags = load16(in_.data() + 16);
  if ((flags & kFixedNewstyle) == 0)
    return fail(Failure::kProtocol, "the server does not speak fixed newstyle NBD");

  store32(out_.data(), flags & (kFixedNewstyle | kNoZeroes));
  if (has_attachment_) send_attachment(4);
  else send_go(4);
}

void Handshake::send_attachment(std::size_t at) noexcept {
  std::memcpy(out_.data() + at + kOptionBytes, attachment_.data(), attachment_.size());
  send_option(at, kAttachment, attachment_.size());
}

void Handshake::send_go(std::size_t at) noexcept {
  std::uint8_t* data = out_.data() + at + kOptionBytes;
  store32(data, static_cast<std::uint32_t>(name_bytes_));
  std::memcpy(data + 4, name_.data(), name_bytes_);
  store16(data + 4 + name_bytes_, 1);
  store16(data + 6 + name_bytes_, kInfoBlockSize);
  send_option(at, kGo, 8 + name_bytes_);
}

void Handshake::send_option(std::size_t at, std::uint32_t option, std::size_t data_bytes) noexcept {
  std::uint8_t* out = out_.data() + at;
  store64(out, kOptionMagic);
  store32(out + 8, option);
  store32(out + 12, static_cast<std::uint32_t>(data_bytes));
  option_ = option;
  out_bytes_ = at + kOptionBytes + data_bytes;
  out_sent_ = 0;
  expect(Step::kHeader, kHeaderBytes);
}

void Handshake::header() noexcept {
  const std::uint8_t* in = in_.data();
  if (load64(in) != kReplyMagic) return fail(Failure::kProtocol, "the server's reply has a wrong magic number");
  if (load32(in + 8) != option_) return fail(Failure::kProtocol, "the server answers an option that was not sent");
  reply_type_ = load32(in + 12);
  const std::uint32_t length = load32(in + 16);
  if (length > kDataBytesMax) return fail(Failure::kProtocol, "the server's reply is absurdly long");
  if (++replies_ > kRepliesMax) return fail(Failure::kProtocol, "the server does not come to an end");
  expect(Step::kData, length);
}

void Handshake::reply() noexcept {
  // Whatever a server has against this one, it says so of GO as well if it means more than that.
  if (option_ == kAttachment && (reply_type_ & kError) != 0) return send_go(0);
  if ((reply_type_ & kError) != 0) {
    const auto failure = reply_type_ == 0x80000006 ? Failure::kUnknownExport : Failure::kRefused;
    return fail(failure, refusal(reply_type_), Bytes{in_.data(), std::min(wanted_, in_.size())});
  }
  if (reply_type_ == kAck) {
    if (wanted_ != 0) return fail(Failure::kProtocol, "the server's acknowledgement carries data");
    if (option_ == kAttachment) return send_go(0);
    if (!has_export_) return fail(Failure::kProtocol, "the server does not tell the size");
    state_ = State::kDone;
    return;
  }
  if (reply_type_ != kInfo || option_ != kGo) return fail(Failure::kProtocol, "the server's reply is of an unknown type");
  info();
}

void Handshake::info() noexcept {
  const std::uint8_t* in = in_.data();
  if (wanted_ < 2) return fail(Failure::kProtocol, "the server's information is cut off");
  const std::uint16_t type = load16(in);
  if (type == kInfoExport) {
    if (wanted_ != 12) return fail(Failure::kProtocol, "the server's information on the export has a wrong length");
    export_.size_bytes = load64(in + 2);
    export_.flags = load16(in + 10);
    has_export_ = true;
  } else if (type == kInfoBlockSize) {
    if (wanted_ != 14) return fail(Failure::kProtocol, "the server's information on block sizes has a wrong length");
    export_.minimum_bytes = load32(in + 2);
    export_.preferred_bytes = load32(in + 6);
    export_.maximum_bytes = load32(in + 10);
  }
  // Others are for people.
  expect(Step::kHeader, kHeaderBytes);
}

}  // namespace attach
