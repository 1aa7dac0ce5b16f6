// The file operations of the loop: how they start, go on when the kernel did only a part, and end.
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "loop/loop.h"
#include "loop/time.h"

namespace loop {

namespace {

constexpr std::size_t kInlineBytes = 32 * 1024;          // largest file operation carried out at once
constexpr std::size_t kInlineBytesAtOnce = 1024 * 1024;  // … and all of them in one exchange
constexpr double kInlineSlowSeconds = 0.005;
constexpr double kInlinePauseSeconds = 1;  // doubled each time, up to …
constexpr double kInlinePauseSecondsMax = 64;

}  // namespace

void Loop::allow_inline() noexcept { inline_left_ = kInlineBytesAtOnce; }

void Loop::apply_file(Request request, const double* row) noexcept {
  if (free_files_.empty()) return emit(Completion::file, row[5], -EBUSY);
  const std::uint32_t index = free_files_.back();
  File& file = files_[index];
  FileStep step{};
  step.fd = static_cast<int>(row[1]);
  step.offset = row[4] >= 0 ? static_cast<std::uint64_t>(row[4]) : 0;
  switch (request) {
    case Request::file_read:
    case Request::file_write:
      step.call = request == Request::file_read ? FileCall::read : FileCall::write;
      step.at = arena_->range(row[2], row[3]);
      if (step.at == nullptr) return emit(Completion::file, row[5], -EFAULT);
      step.length = static_cast<std::size_t>(row[3]);
      break;
    case Request::file_write_vector: {
      const std::size_t first = index_of(row[2]);
      const std::size_t count = index_of(row[3]);
      if (count == 0 || count > kWriteVectors || first + count > kVectorRows)
        return emit(Completion::file, row[5], -EFAULT);
      if (file.vectors == nullptr) file.vectors = std::make_unique<iovec[]>(kWriteVectors);
      for (std::size_t i = 0; i < count; i++) {
        const double* vector = &vectors_[2 * (first + i)];
        std::byte* at = arena_->range(vector[0], vector[1]);
        if (at == nullptr) return emit(Completion::file, row[5], -EFAULT);
        file.vectors[i] = {at, static_cast<std::size_t>(vector[1])};
        step.length += file.vectors[i].iov_len;
      }
      step.call = FileCall::write_vector;
      step.vectors = file.vectors.get();
      step.vector_count = static_cast<unsigned>(count);
      break;
    }
    case Request::file_data_sync:
      step.call = FileCall::data_sync;
      break;
    default:
      step.call = FileCall::sync;
      break;
  }
  free_files_.pop_back();
  file.step = step;
  file.tag = row[5];
  file.done = 0;
  start_file(index);
}

void Loop::start_file(std::uint32_t index) noexcept {
  if (try_inline(index)) return;
  File& file = files_[index];
  if (watch_engine()) return engine_->file(index, file.step);
  free_files_.push_back(index);  // nobody would tell us of its end
  emit(Completion::file, file.tag, -ENOMEM);
}

// Small operations on cached data take less time than handing them to a worker and hearing of them again
// (ext4 takes no write without waiting, so io_uring gives every write to a worker). Reads are tried without
// waiting. A write may be made to wait by a full disk cache: one that took long closes this way for a while.
bool Loop::try_inline(std::uint32_t index) noexcept {
  File& file = files_[index];
  FileStep& step = file.step;
  if (step.length == 0 || step.length > kInlineBytes || inline_left_ < step.length) return false;
  if (step.call == FileCall::read) {
    const iovec piece{step.at, step.length};
    const ssize_t count = ::preadv2(step.fd, &piece, 1, static_cast<off_t>(step.offset), RWF_NOWAIT);
    if (count != static_cast<ssize_t>(step.length)) return false;
    inline_left_ -= step.length;
    answer_file(index, static_cast<std::int32_t>(count));
    return true;
  }
  const double before = now();
  if (before < inline_writes_from_) return false;
  const auto offset = static_cast<off_t>(step.offset);
  const ssize_t count = step.call == FileCall::write
                            ? ::pwrite(step.fd, step.at, step.length, offset)
                            : ::pwritev(step.fd, step.vectors, static_cast<int>(step.vector_count), offset);
  const std::int32_t result = count < 0 ? -errno : static_cast<std::int32_t>(count);
  const double after = now();
  if (after - before > kInlineSlowSeconds) {
    inline_pause_ = std::min(std::max(2 * inline_pause_, kInlinePauseSeconds), kInlinePauseSecondsMax);
    inline_writes_from_ = after + inline_pause_;
  } else if (after > inline_writes_from_ + inline_pause_) {
    inline_pause_ = 0;  // quick for as long as we had kept away from it
  }
  inline_left_ -= step.length;
  answer_file(index, result);
  return true;
}

void Loop::answer_file(std::uint32_t index, std::int32_t result) noexcept {
  File& file = files_[index];
  FileStep& step = file.step;
  if (result == -EINTR || result == -EAGAIN) {
    step.may_wait = true;
    continued_ = true;
    return engine_->file(index, step);
  }
  double answer = result;
  if (result >= 0 && step.length > 0) {
    const auto count = static_cast<std::size_t>(result);
    file.done += count;
    step.offset += count;
    step.length -= count;
    if (step.call == FileCall::write_vector) {
      std::size_t skip = count;
      while (step.vector_count > 0 && skip >= step.vectors->iov_len) {
        skip -= step.vectors->iov_len;
        step.vectors += 1;
        step.vector_count -= 1;
      }
      if (step.vector_count > 0) {
        iovec& first = file.vectors[static_cast<std::size_t>(step.vectors - file.vectors.get())];
        first.iov_base = static_cast<std::byte*>(first.iov_base) + skip;
        first.iov_len -= skip;
      }
    } else {
      step.at += count;
    }
    if (count > 0 && step.length > 0) {
      continued_ = true;
      return engine_->file(index, step);
    }
    answer = static_cast<double>(file.done);
    if (step.length > 0 && step.call != FileCall::read) answer = -EIO;  // a write that writes nothing
  }
  free_files_.push_back(index);
  emit(Completion::file, file.tag, answer);
}

}  // namespace loop
