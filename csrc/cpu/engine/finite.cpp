#include <atomic>

#include "cpu/engine/mainloop.h"
#include "cpu/isa/isa.h"
#include "fastclip/ops/find_nonfinite.h"

namespace fastclip::cpu {

int64_t find_nonfinite(const FindNonfiniteCall& call, int threads, Interrupt& interrupt) {
  constexpr int64_t kTaskBytes = 4 << 20;  // a thread is not worth waking for less
  const Matrix& rows = call.rows;
  const int64_t row_bytes = std::max<int64_t>(1, rows.cols * size_of(rows.dtype));
  const int64_t per_task = std::max<int64_t>(1, kTaskBytes / row_bytes);
  const Kernels& isa = kernels();
  std::atomic<int64_t> first{rows.rows};
  parallel_for(ceil_div(rows.rows, per_task), threads, interrupt, [&](int64_t task) {
    const int64_t begin = task * per_task;
    if (begin >= first) return;
    const int64_t found =
        isa.find_nonfinite(rows.slice(begin, std::min(begin + per_task, rows.rows)));
    if (found < 0) return;
    int64_t known = first;
    while (begin + found < known && !first.compare_exchange_weak(known, begin + found)) {
    }
  });
  return first < rows.rows ? first.load() : -1;
}

}  // namespace fastclip::cpu
