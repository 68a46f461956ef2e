// The sums of group_mean: float64, in the order of the keys, whatever the number of threads.
#include <algorithm>

#include "cpu/engine/buffer.h"
#include "cpu/ops.h"
#include "cpu/tuning.h"
#include "fastclip/element.h"

namespace fastclip::cpu {

void group_sums(const Matrix& keys, const int64_t* groups, double* sums, int threads,
                Interrupt& interrupt) {
  constexpr int64_t kColumns = tuning::kColumnsPerTask;  // whole ones: threads change no sum
  parallel_for(ceil_div(keys.cols, kColumns), threads, interrupt, [&](int64_t task) {
    const int64_t last = std::min((task + 1) * kColumns, keys.cols);
    for (int64_t i = 0; i < keys.rows; ++i) {
      if (i % tuning::kRowsPerPoll == 0 && interrupt.poll()) return;
      double* to = sums + groups[i] * keys.cols;
      for (int64_t c = task * kColumns; c < last; ++c) to[c] += element(keys, i, c);
    }
  });
}

void round_means(const double* sums, const int64_t* counts, int64_t rows, int64_t cols, float* out,
                 int threads, Interrupt& interrupt) {
  const int64_t per_task =
      std::max<int64_t>(1, tuning::kRoundTaskNumbers / std::max<int64_t>(1, cols));
  parallel_for(ceil_div(rows, per_task), threads, interrupt, [&](int64_t task) {
    for (int64_t i = task * per_task; i < std::min((task + 1) * per_task, rows); ++i) {
      const auto count = static_cast<double>(counts == nullptr ? 1 : counts[i]);
      for (int64_t c = 0; c < cols; ++c) {
        out[i * cols + c] = static_cast<float>(sums[i * cols + c] / count);
      }
    }
  });
}

}  // namespace fastclip::cpu
