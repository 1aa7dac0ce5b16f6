#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <map>

#include "hash/hash.h"
#include "siv/crew.h"
#include "test/check.h"
#include "test/siv_kit.h"

namespace {

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kStride = 37;
constexpr std::size_t kRowAt = 9;

class Waiting {
 public:
  explicit Waiting(siv::Crew& crew) : crew_(crew) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    CHECK(epoll_ >= 0 && ::epoll_ctl(epoll_, EPOLL_CTL_ADD, crew.watch_fd(), &event) == 0);
  }
  ~Waiting() { ::close(epoll_); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  // Result by tag; every tag comes once.
  std::map<double, double> answers(std::size_t count) {
    std::map<double, double> all;
    while (all.size() < count) {
      std::array<loop::Done, 3> some;
      std::size_t got = 0;
      do {
        got = crew_.drain(some);
        for (std::size_t i = 0; i < got; i++) CHECK(all.emplace(some[i].tag, some[i].result).second);
      } while (got == some.size());
      if (all.size() >= count) break;
      epoll_event event{};
      const int ready = ::epoll_wait(epoll_, &event, 1, 10'000);
      CHECK(ready == 1 || (ready < 0 && errno == EINTR));  // nobody waits in vain
    }
    return all;
  }

 private:
  siv::Crew& crew_;
  int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
};

struct Piece {
  Bytes plain;
  Bytes data;
  Bytes contexts;

  Piece(Chance& chance, std::size_t count)
      : plain(chance.bytes(count * kBlock)), data(plain), contexts(count * kStride) {}
  [[nodiscard]] std::size_t count() const { return data.size() / kBlock; }
  [[nodiscard]] siv::Blocks blocks() { return {data.data(), data.data(), kBlock, count()}; }
  [[nodiscard]] siv::Rows rows() { return {contexts.data() + kRowAt, kStride}; }
};

}  // namespace

int main() {
  siv::Crew crew;
  CHECK(crew.open() == 0);
  CHECK(crew.open() == -EBUSY);
  Waiting waiting(crew);
  Chance chance(7);
  auto key = std::make_shared<siv::Key>();
  CHECK(key->open(chance.bytes(siv::kKeyBytes).data(), *siv::choose("auto")) == 0);

  std::vector<Piece> pieces;
  for (const std::size_t count : {1UL, 16UL, 17UL, 256UL, 255UL, 3UL, 64UL}) pieces.emplace_back(chance, count);
  double tag = 100;
  for (Piece& piece : pieces) crew.seal(key, piece.blocks(), piece.rows(), piece.contexts.data(), tag++);
  for (const auto& [of, result] : waiting.answers(pieces.size())) CHECK(of >= 100 && result == -1);
  for (Piece& piece : pieces) {
    CHECK(piece.data != piece.plain);
    CHECK(hash::verify_prefixed({piece.data.data(), kBlock, piece.count()}, piece.contexts.data(), kStride,
                                {piece.contexts.data() + kRowAt, kStride, siv::kRowBytes}) == -1);
  }

  // All or none, over all slices. Bad ones in two slices: either may be named.
  std::vector<Piece> before = pieces;
  for (int round = 0; round < 10; round++) {
    Piece& large = pieces[3];
    const std::size_t first = chance.below(128);
    const std::size_t second = 128 + chance.below(128);
    large.data[first * kBlock] ^= std::byte{1};
    large.data[second * kBlock + 5] ^= std::byte{1};
    const Bytes wrong = large.data;
    crew.open(key, large.blocks(), large.rows(), 1);
    const double named = waiting.answers(1).at(1);
    CHECK(named == static_cast<double>(first) || named == static_cast<double>(second));
    CHECK(large.data == wrong);
    Bytes apart(wrong.size(), std::byte{9});
    crew.open(key, {wrong.data(), apart.data(), kBlock, large.count()}, large.rows(), 2);
    CHECK(waiting.answers(1).at(2) >= 0);
    CHECK(apart == Bytes(wrong.size()));
    large.data = before[3].data;
  }

  for (std::size_t i = 0; i < pieces.size(); i++)
    crew.open(key, pieces[i].blocks(), pieces[i].rows(), static_cast<double>(i));
  for (const auto& [of, result] : waiting.answers(pieces.size())) CHECK(of >= 0 && result == -1);
  for (const Piece& piece : pieces) CHECK(piece.data == piece.plain);

  // The last job keeps the key as long as it needs it; what waits at the end is dropped.
  std::weak_ptr<siv::Key> watched = key;
  crew.seal(std::move(key), pieces[0].blocks(), pieces[0].rows(), nullptr, 5);
  CHECK(waiting.answers(1).at(5) == -1);
  crew.close();
  CHECK(watched.expired());
  crew.close();

  siv::Crew hasty;
  CHECK(hasty.open() == 0);
  auto other = std::make_shared<siv::Key>();
  CHECK(other->open(chance.bytes(siv::kKeyBytes).data(), siv::portable()) == 0);
  for (int i = 0; i < 50; i++) hasty.seal(other, pieces[3].blocks(), pieces[3].rows(), nullptr, i);
  return 0;
}
