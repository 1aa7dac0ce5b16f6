#include <pthread.h>
#include <sys/mman.h>

#include <cstring>
#include <unordered_set>

#include "siv/blocks.h"
#include "test/check.h"
#include "test/siv_kit.h"

// What was a key is nowhere on the stack afterwards.
namespace {

constexpr std::size_t kStackBytes = 2 * 1024 * 1024;
constexpr std::size_t kBlock = 4096;

struct Scene {
  const siv::Parts* parts;
  Bytes key;
  Bytes data;
  Bytes rows = Bytes(2 * siv::kRowBytes);
  bool tampered;
  bool leaves;  // on purpose, so that the search is seen to find
};

void leave(const Scene& scene) noexcept {
  siv::Schedule schedule;
  siv::Working working;
  scene.parts->expand(scene.key.data(), schedule);
  scene.parts->derive(schedule, scene.rows.data(), working);
}

void* work(void* with) noexcept {
  Scene& scene = *static_cast<Scene*>(with);
  siv::Key key;
  CHECK(key.open(scene.key.data(), *scene.parts) == 0);
  const siv::Blocks blocks{scene.data.data(), scene.data.data(), kBlock, 2};
  const siv::Rows rows{scene.rows.data(), siv::kRowBytes};
  siv::seal_blocks(key, nullptr, blocks, rows, nullptr);
  if (scene.tampered) scene.rows[siv::kRowBytes + 20] ^= std::byte{1};
  CHECK((siv::open_blocks(key, blocks, rows) == -1) == !scene.tampered);
  if (scene.leaves) leave(scene);
  return nullptr;
}

// Eight bytes at a time, as that is what registers are saved in.
class Needles {
 public:
  void add(const std::byte* at, std::size_t bytes) {
    for (std::size_t i = 0; i + 8 <= bytes; i++) {
      std::uint64_t value = 0;
      std::memcpy(&value, at + i, 8);
      // Parts of it that are found anywhere say nothing.
      int ordinary = 0;
      for (unsigned k = 0; k < 8; k++) {
        const auto byte = static_cast<unsigned char>(value >> (8 * k));
        ordinary += byte == 0 || byte == 0xff ? 1 : 0;
      }
      if (ordinary <= 1) all_.insert(value);
    }
  }
  [[nodiscard]] std::size_t found_in(const std::byte* at, std::size_t bytes) const {
    std::size_t found = 0;
    for (std::size_t i = 0; i + 8 <= bytes; i += 4) {
      std::uint64_t value = 0;
      std::memcpy(&value, at + i, 8);
      found += all_.count(value);
    }
    return found;
  }

 private:
  std::unordered_set<std::uint64_t> all_;
};

std::size_t left_on_stack(Scene& scene) {
  Needles needles;
  needles.add(scene.key.data(), scene.key.size());
  for (const siv::Parts* parts : implementations())
    for (std::size_t i = 0; i < 2; i++) {
      siv::Schedule schedule;
      siv::Working working{};
      parts->expand(scene.key.data(), schedule);
      parts->derive(schedule, scene.rows.data() + i * siv::kRowBytes, working);
      needles.add(schedule.room, parts->schedule_bytes);
      needles.add(working.room, parts->working_bytes);
    }
  void* stack = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(stack != MAP_FAILED);
  pthread_attr_t attributes;
  pthread_t thread;
  CHECK(::pthread_attr_init(&attributes) == 0);
  CHECK(::pthread_attr_setstack(&attributes, stack, kStackBytes) == 0);
  CHECK(::pthread_create(&thread, &attributes, work, &scene) == 0);
  CHECK(::pthread_join(thread, nullptr) == 0);
  ::pthread_attr_destroy(&attributes);
  const std::size_t found = needles.found_in(static_cast<std::byte*>(stack), kStackBytes);
  ::munmap(stack, kStackBytes);
  return found;
}

}  // namespace

int main() {
  Chance chance(3);
  for (const siv::Parts* parts : implementations())
    for (const bool tampered : {false, true}) {
      Scene scene{parts, chance.bytes(siv::kKeyBytes), chance.bytes(2 * kBlock), chance.bytes(2 * siv::kRowBytes),
                  tampered, false};
      CHECK(left_on_stack(scene) == 0);
      scene.leaves = true;
      CHECK(left_on_stack(scene) > 0);
    }
  return 0;
}
