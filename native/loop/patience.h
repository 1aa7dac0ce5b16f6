#pragma once
#include "loop/time.h"

namespace loop {

// Whether to look again for a moment before going to sleep. A client that waits for each answer sends its
// next request within microseconds; sleeping and being woken then costs both sides more than looking. It is
// only done while it mostly succeeds: with slow clients or busy processors it is tried now and then.
class Patience {
 public:
  // Looks until it finds something (true) or the moment has passed.
  template <typename Look>
  bool wait(Look look) noexcept {
    const bool likely = score_ > kLikely;
    if (!likely && ++skipped_ < kProbeEvery) return false;
    skipped_ = 0;
    const double until = now() + kSeconds;
    bool found = false;
    do {
      found = look();
    } while (!found && now() < until);
    score_ += ((found ? 1.0 : 0.0) - score_) * (likely ? kWeight : kProbeWeight);
    return found;
  }

 private:
  static constexpr double kSeconds = 50e-6;
  static constexpr double kLikely = 0.6;
  static constexpr double kWeight = 1.0 / 16;
  static constexpr double kProbeWeight = 1.0 / 4;
  static constexpr int kProbeEvery = 32;

  double score_ = 0;
  int skipped_ = 0;
};

}  // namespace loop
