// Epilogues of the screen: what is done with x and the margin of screen.h, (2), while they are in
// registers. The mainloop calls
//
//   epilogue(query, first_key, there, x, margin)
//
// for each vector of pairs, one query with the keys from first_key on; `there` has a bit for each
// lane that holds a key. Epilogues are passed by value, so that the address of the next hit stays
// in a register.
#pragma once

#include <cstdint>

#include "cpu/isa/kernels.h"
#include "cpu/isa/vectors.h"

namespace fastclip::cpu {
namespace {

// Writes the lanes that passed, usually none, and returns where the next hit goes.
template <class Isa>
Hit* append_hits(Hit* end, int64_t query, int64_t first_key, uint32_t passed,
                 typename Isa::Floats x) {
  if (__builtin_expect(passed != 0, 0)) {
    float lanes[sizeof(x) / 4];
    store(lanes, x);
    for (; passed != 0; passed &= passed - 1) {
      const int lane = __builtin_ctz(passed);
      *end++ = {static_cast<int32_t>(query), static_cast<int32_t>(first_key) + lane, lanes[lane]};
    }
  }
  return end;
}

template <class Isa>
struct FindHitsEpilogue {
  using Floats = typename Isa::Floats;
  const FindHits* to;
  Hit* end;

  void operator()(int64_t i, int64_t key, uint32_t there, Floats x, Floats margin) {
    const uint32_t passed = Isa::at_least(x + margin, to->thresholds[i]) & there;
    end = append_hits<Isa>(end, i, key, passed, x);
  }
};

template <class Isa>
struct CountSureEpilogue {
  using Floats = typename Isa::Floats;
  const CountSure* to;
  Hit* end;

  void operator()(int64_t i, int64_t key, uint32_t there, Floats x, Floats margin) {
    const uint32_t passed = Isa::at_least(x + margin, to->hits.thresholds[i]) & there;
    const uint32_t sure = Isa::at_least(x - margin, to->sure[i]) & there;
    to->query_counts[i] += __builtin_popcount(sure);
    if (to->key_counts != nullptr && sure != 0) {
      for (int lane = 0; lane < static_cast<int>(sizeof(x) / 4); ++lane) {
        to->key_counts[key + lane] += static_cast<int32_t>((sure >> lane) & 1u);
      }
    }
    end = append_hits<Isa>(end, i, key, passed & ~sure, x);
  }
};

template <class Isa>
struct WriteUppersEpilogue {
  using Floats = typename Isa::Floats;
  const WriteUppers* to;

  void operator()(int64_t i, int64_t key, uint32_t, Floats x, Floats margin) {
    store(to->uppers + i * to->stride + key, x + margin);
  }
};

template <class Isa>
struct WriteBoundsEpilogue {
  using Floats = typename Isa::Floats;
  const WriteBounds* to;

  void operator()(int64_t i, int64_t key, uint32_t, Floats x, Floats margin) {
    store(to->lowers + i * to->stride + key, x - margin);
    store(to->uppers + i * to->stride + key, x + margin);
  }
};

}  // namespace
}  // namespace fastclip::cpu
