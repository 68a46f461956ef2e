// Reducer: log sum exp(scale * score) over the scores of one query, scale >= 0.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "fastclip/host_device.h"

namespace fastclip {

struct LogSumExp {
  // The largest score so far, and the sum of exp(scale * (score - max)); the identity as it stands.
  float max = -std::numeric_limits<float>::infinity();
  double sum = 0;

  // Adds a block of scores. `largest(scores, count)` and `sum_exp(scores, count, scale, max)` do
  // the work in float32 vectors; a block is short enough for that.
  template <class Largest, class SumExp>
  FASTCLIP_HD void accumulate(const float* scores, int64_t count, double scale, Largest largest,
                              SumExp sum_exp) {
    if (count == 0) return;
    rescale(largest(scores, count), scale);
    sum += sum_exp(scores, count, static_cast<float>(scale), max);
  }

  FASTCLIP_HD void merge(const LogSumExp& other, double scale) {
    if (other.sum == 0) return;
    rescale(other.max, scale);
    sum += other.sum * factor(other.max, max, scale);
  }

  FASTCLIP_HD double finish(double scale) const { return scale * max + std::log(sum); }

 private:
  FASTCLIP_HD static double factor(float from, float to, double scale) {
    return from == to ? 1 : std::exp(scale * (static_cast<double>(from) - to));
  }

  FASTCLIP_HD void rescale(float seen, double scale) {
    if (seen <= max) return;
    if (sum != 0) sum *= factor(max, seen, scale);
    max = seen;
  }
};

}  // namespace fastclip
