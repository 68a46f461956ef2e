// Selection among the numbers of a row.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "cpu/engine/buffer.h"
#include "cpu/isa/isa.h"
#include "fastclip/screen.h"
#include "inputs.h"
#include "tests.h"

namespace fastclip::tests {
namespace {

// Numbers of which a `share` is below zero; many tie where they are rounded.
Floats numbers_for_selection(int64_t n, double share, bool rounded) {
  Floats x(n);
  for (float& number : x) {
    number = std::abs(random_number(Kind::kPlain));
    if (rounded) number = std::round(number);
    if (static_cast<double>(random_below(1000)) < 1000 * share) number -= 1.0f;
    if (random_below(50) == 0) number = random_below(2) == 0 ? -0.0f : -0x1p-149f;
    if (random_below(200) == 0) number = std::numeric_limits<float>::infinity();
    if (random_below(200) == 0) number = -std::numeric_limits<float>::infinity();
  }
  return x;
}

void check_numbers(const Run& run) {
  for (int trial = 0; trial < 3000; ++trial) {
    const int64_t n = 1 + random_below(trial % 10 == 0 ? 1000 : 100);
    const int64_t k = 1 + random_below(n), more = random_below(2) * (n - k) / 4;
    Floats x = numbers_for_selection(n, 0.05 * static_cast<double>(random_below(21)),
                                     random_below(2) == 0);
    Floats sorted = x;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    x.resize(round_up(n, kLanes), std::numeric_limits<float>::quiet_NaN());
    const float kth = cpu::kernels().kth_largest(x.data(), n, k, more);
    const auto reach =
        std::count_if(sorted.begin(), sorted.end(), [=](float y) { return y >= kth; });
    run.expect(kth == sorted[k - 1] || (k <= reach && reach < k + more), "kth_largest");

    Floats others(x.size());
    Indices keys(x.size());
    for (size_t i = 0; i < x.size(); ++i) others[i] = keys[i] = static_cast<int64_t>(2 * i);
    Indices expected;
    for (int64_t i = 0; i < n; ++i) {
      if (x[i] >= kth) expected.push_back(2 * i);
    }
    const Floats before = x;
    float* with = trial % 2 == 0 ? others.data() : nullptr;
    keys.resize(cpu::kernels().keep_at_least(kth, n, x.data(), with, keys.data()));
    run.expect(keys == expected, "keep_at_least (keys)");
    for (size_t i = 0; i < keys.size(); ++i) {
      run.expect(x[i] == before[keys[i] / 2], "keep_at_least (numbers)");
      run.expect(with == nullptr || others[i] == static_cast<float>(keys[i]),
                 "keep_at_least (others)");
    }
  }
}

// argmax and compress read runs of bounds from where a vector begins, and what lies around them.
void check_runs(const Run& run) {
  for (int trial = 0; trial < 1000; ++trial) {
    const int64_t begin = random_below(100), end = begin + 1 + random_below(150);
    Floats uppers(round_up(end, kPanel));
    for (float& x : uppers) x = static_cast<float>(random_below(40));
    const cpu::KeyRun keys = {uppers.data(), begin, end};
    int64_t best = -1;
    const float most = cpu::kernels().argmax(keys, best);
    run.expect(begin <= best && best < end && uppers[best] == most, "argmax");
    run.expect(most == *std::max_element(uppers.begin() + begin, uppers.begin() + end), "argmax");
    const auto threshold = static_cast<float>(random_below(45));
    Indices expected;
    for (int64_t j = begin; j < end; ++j) {
      if (uppers[j] >= threshold) expected.push_back(j);
    }
    std::vector<int32_t> passed(end - begin + kLanes);
    passed.resize(cpu::kernels().compress(keys, threshold, passed.data()));
    run.expect(Indices(passed.begin(), passed.end()) == expected, "compress");
  }
}

}  // namespace

void check_selection(Run& run) {
  random_state = 3;
  check_numbers(run);
  check_runs(run);
}

}  // namespace fastclip::tests
