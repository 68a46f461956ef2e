// The sums of group_mean: float64, in the order of the keys, whatever the number of threads.
#include "fastclip/ops/group_mean.h"

#include <algorithm>

#include "cpu/engine/buffer.h"
#include "cpu/engine/threads.h"
#include "fastclip/element.h"

namespace fastclip::cpu {

void group_sums(const GroupSumsCall& call, int threads, Interrupt& interrupt) {
  constexpr int64_t kColumns = 64;  // of one task; whole columns, so that threads change no sum
  constexpr int64_t kRows = 1024;   // between two looks at the interrupt
  const Matrix& keys = call.keys;
  parallel_for(ceil_div(keys.cols, kColumns), threads, interrupt, [&](int64_t task) {
    const int64_t last = std::min((task + 1) * kColumns, keys.cols);
    for (int64_t i = 0; i < keys.rows; ++i) {
      if (i % kRows == 0 && interrupt.poll()) return;
      double* to = call.sums.data + call.groups[i] * keys.cols;
      for (int64_t c = task * kColumns; c < last; ++c) to[c] += element(keys, i, c);
    }
  });
}

void round_means(const RoundMeansCall& call, int threads, Interrupt& interrupt) {
  constexpr int64_t kNumbers = 1 << 18;  // of one task: a thread is not worth waking for less
  const int64_t rows = call.sums.sizes[0], cols = call.sums.sizes[1];
  const int64_t per_task = std::max<int64_t>(1, kNumbers / std::max<int64_t>(1, cols));
  parallel_for(ceil_div(rows, per_task), threads, interrupt, [&](int64_t task) {
    for (int64_t i = task * per_task; i < std::min((task + 1) * per_task, rows); ++i) {
      const auto count = static_cast<double>(call.counts.data == nullptr ? 1 : call.counts[i]);
      for (int64_t c = 0; c < cols; ++c) {
        call.out[i * cols + c] = static_cast<float>(call.sums[i * cols + c] / count);
      }
    }
  });
}

}  // namespace fastclip::cpu
