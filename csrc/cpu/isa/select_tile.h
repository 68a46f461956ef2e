// Selection among the numbers of a row, written once over the vectors of an Isa (kernel_table.h).
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/isa/kernels.h"
#include "cpu/isa/vectors.h"
#include "cpu/tuning.h"
#include "fastclip/ordered.h"

namespace fastclip::cpu {
namespace {

template <class Isa>
struct SelectTile {
  using Ints = typename Isa::Ints;
  using Floats = typename Isa::Floats;
  static constexpr int kLanes32 = sizeof(Ints) / 4;
  static constexpr float kInfinity = __builtin_inff();

  static float argmax(const KeyRun& run, int64_t& key) {
    const int64_t begin = first_vector(run);
    Floats most = Floats{} - kInfinity;
    Ints at = {};
    for (int64_t j = begin; j < run.end; j += kLanes32) {
      Floats x = load<Floats>(run.uppers + j);
      const Ints lane = lane_numbers() + static_cast<int32_t>(j - begin);
      if (j < run.begin || run.end - j < kLanes32) {
        const Ints outside = (lane < static_cast<int32_t>(run.begin - begin)) |
                             (lane >= static_cast<int32_t>(run.end - begin));
        x = outside ? Floats{} - kInfinity : x;
      }
      at = x > most ? lane : at;
      most = x > most ? x : most;
    }
    const float best = largest(most);
    const uint32_t lanes = Isa::at_least(most, best);
    int32_t places[kLanes32];
    __builtin_memcpy(places, &at, sizeof(at));
    // Where no bound is above -infinity (NaN where a score may overflow), any key will do.
    key = best > -kInfinity ? begin + places[__builtin_ctz(lanes)] : run.begin;
    return best;
  }

  static int64_t compress(const KeyRun& run, float threshold, int32_t* keys) {
    int64_t count = 0;
    for (int64_t j = first_vector(run); j < run.end; j += kLanes32) {
      uint32_t passed = Isa::at_least(load<Floats>(run.uppers + j), threshold);
      if (j < run.begin) passed &= ~0u << (run.begin - j);
      passed &= first_lanes(run.end - j);
      count += append(passed, static_cast<int32_t>(j), keys + count);
    }
    return count;
  }

  // Narrows the range that contains the number: alternately by interpolation, as if values were
  // spread evenly, and by bisection of values; where that is slow, by bisection of representations.
  static float kth_largest(const float* x, int64_t n, int64_t k, int64_t more) {
    if (k == 1) return largest_up_to(x, n, kInfinity);
    if (k == n) return smallest(x, n);
    // The result is in [low, high]; `reach_low` numbers are low or more, `above` are above high.
    uint32_t low = ordered(smallest(x, n)), high = ordered(largest_up_to(x, n, kInfinity));
    int64_t reach_low = n, above = 0;
    float few[kFew];
    for (int step = 0; low < high; ++step) {
      const float least_left = from_ordered(low), most_left = from_ordered(high);
      if (reach_low - above == 1) return largest_up_to(x, n, most_left);
      if (reach_low - above <= kFew && n > kFew) {
        n = within(x, n, least_left, most_left, few);
        x = few;
        k -= above;
        reach_low = n;
        above = 0;
      }
      uint32_t middle = low + (high - low) / 2 + 1;
      if (step < tuning::kStepsByValue) {
        const float share =
            step % 2 != 0 ? 0.5f
                          : (static_cast<float>(k - above) + 0.5f * static_cast<float>(more)) /
                                static_cast<float>(reach_low - above);
        const float value = share * least_left + (1.0f - share) * most_left;
        const uint32_t place = ordered(value);
        if (value - value == 0) middle = place <= low ? low + 1 : place > high ? high : place;
      }
      const float pivot = from_ordered(middle);
      const int64_t count = count_at_least(x, n, pivot);
      if (count >= k) {
        if (count - k < more) return pivot;
        low = middle;
        reach_low = count;
      } else {
        // No number is one place before 0, since -0 has the place of 0.
        high = ordered(pivot) - (pivot == 0 ? 2 : 1);
        above = count;
      }
    }
    return from_ordered(low);
  }

  static int64_t keep_at_least(float floor, int64_t n, float* numbers, float* others,
                               int64_t* keys) {
    int64_t kept = 0;
    if constexpr (kCompresses) {
      using Longs = typename Isa::Longs;
      constexpr int kHalf = kLanes32 / 2;
      for (int64_t i = 0; i < n; i += kLanes32) {
        const auto x = load<Floats>(numbers + i);
        const uint32_t passed = Isa::at_least(x, floor) & first_lanes(n - i);
        store(numbers + kept, Isa::compress(x, passed));
        if (others != nullptr) {
          store(others + kept, Isa::compress(load<Floats>(others + i), passed));
        }
        const uint32_t first = passed & ((1u << kHalf) - 1);
        const auto rest = load<Longs>(keys + i + kHalf);
        store(keys + kept, Isa::compress(load<Longs>(keys + i), first));
        store(keys + kept + __builtin_popcount(first), Isa::compress(rest, passed >> kHalf));
        kept += __builtin_popcount(passed);
      }
    } else {
      for (int64_t i = 0; i < n; ++i) {
        const float x = numbers[i];
        numbers[kept] = x;
        if (others != nullptr) others[kept] = others[i];
        keys[kept] = keys[i];
        kept += x >= floor ? 1 : 0;
      }
    }
    return kept;
  }

 private:
  static constexpr int64_t kFew = tuning::kFewToSearch;
  static constexpr bool kCompresses = requires { Isa::compress(Ints{}, 0u); };

  static Ints lane_numbers() {
    int32_t numbers[kLanes32];
    for (int lane = 0; lane < kLanes32; ++lane) numbers[lane] = lane;
    return load<Ints>(numbers);
  }

  // The bits of the first `left` lanes, or of all if there are fewer.
  static uint32_t first_lanes(int64_t left) { return left >= kLanes32 ? ~0u : (1u << left) - 1; }

  // Runs are read from a multiple of the vector on, so that reads stay inside the panels.
  static int64_t first_vector(const KeyRun& run) { return run.begin / kLanes32 * kLanes32; }

  // Writes the keys of the lanes that passed, from `first` on. Returns how many they are.
  static int64_t append(uint32_t passed, int32_t first, int32_t* keys) {
    if constexpr (kCompresses) {
      store(keys, Isa::compress(lane_numbers() + first, passed));
      return __builtin_popcount(passed);
    }
    int64_t count = 0;
    for (; passed != 0; passed &= passed - 1) keys[count++] = first + __builtin_ctz(passed);
    return count;
  }

  // state = next(state, v) for all numbers, with `filler` in lanes beyond them. A state passed by
  // reference would not be kept in a register.
  template <class State, class Next>
  static State walk(const float* x, int64_t n, float filler, State state, Next next) {
    int64_t i = 0;
    for (; i + kLanes32 <= n; i += kLanes32) state = next(state, load<Floats>(x + i));
    if (i == n) return state;
    const Ints there = lane_numbers() < static_cast<int32_t>(n - i);
    return next(state, there ? load<Floats>(x + i) : Floats{} + filler);
  }

  static int64_t count_at_least(const float* x, int64_t n, float floor) {
    const Ints minus = walk(x, n, -kInfinity, Ints{},
                            [=](Ints counts, Floats v) { return counts + (v >= floor); });
    return -fold(minus, [](auto a, auto b) { return a + b; });
  }

  static float largest_up_to(const float* x, int64_t n, float most) {
    return largest(walk(x, n, -kInfinity, Floats{} - kInfinity, [=](Floats highest, Floats v) {
      return ((v > highest) & (v <= most)) ? v : highest;
    }));
  }

  static float smallest(const float* x, int64_t n) {
    return fold(walk(x, n, kInfinity, Floats{} + kInfinity,
                     [](Floats lowest, Floats v) { return v < lowest ? v : lowest; }),
                [](auto a, auto b) { return a < b ? a : b; });
  }

  // Writes the numbers from least to most, no more than kFew, and returns how many they are.
  static int64_t within(const float* x, int64_t n, float least, float most, float* to) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += kLanes32) {
      const auto v = load<Floats>(x + i);
      uint32_t passed = Isa::at_least(v, least) & Isa::at_least(-v, -most) & first_lanes(n - i);
      float lanes[kLanes32];
      store(lanes, v);
      for (; passed != 0; passed &= passed - 1) to[count++] = lanes[__builtin_ctz(passed)];
    }
    return count;
  }

  static float largest(Floats v) {
    return fold(v, [](auto a, auto b) { return a > b ? a : b; });
  }

  // Reduces a vector to one lane. Halves are taken by shuffles: copies would force the vector into
  // memory.
  template <class Vec, class Join>
  static auto fold(Vec v, Join join) {
    constexpr int kHalf = sizeof(Vec) / 8;
    if constexpr (kHalf == 1) {
      return join(v[0], v[1]);
    } else {
      return [=]<int... lane>(std::integer_sequence<int, lane...>) {
        return fold(join(__builtin_shufflevector(v, v, lane...),
                         __builtin_shufflevector(v, v, (kHalf + lane)...)),
                    join);
      }(std::make_integer_sequence<int, kHalf>());
    }
  }
};

}  // namespace
}  // namespace fastclip::cpu
