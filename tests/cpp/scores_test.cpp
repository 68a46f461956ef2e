// Exact scores, of all pairs and of some, and rows that are not finite.
#include <limits>

#include "fastclip/ops/find_nonfinite.h"
#include "fastclip/ops/pair_scores.h"
#include "fastclip/ops/similarity.h"
#include "search_case.h"

namespace fastclip::tests {

void SearchCase::check_scores(Run& run) const {
  Rows rows = keys_;
  const auto first = [&] {
    return cpu::find_nonfinite({rows.view(), {}}, run.threads, run.interrupt);
  };
  run.expect(first() == -1, "find_nonfinite");
  rows.set(rows.rows - 1, rows.cols - 1, std::numeric_limits<float>::infinity());
  run.expect(first() == rows.rows - 1, "find_nonfinite of an infinity");
  rows.set(rows.rows / 2, rows.cols / 2, std::numeric_limits<float>::quiet_NaN());
  run.expect(first() == rows.rows / 2, "find_nonfinite of a NaN");

  Floats out(scores_.size());
  const MutableMatrix to{reinterpret_cast<char*>(out.data()), DType::kFloat32, q().rows, k().rows,
                         k().rows};
  cpu::similarity({q(), k(), to}, run.threads, run.interrupt);
  run.same(out, scores_, "similarity");
  Floats pairs(q().rows);
  cpu::pair_scores({q(), k(), table(targets_, q().rows), table(pairs, q().rows)}, run.threads,
                   run.interrupt);
  run.same(pairs, thresholds_, "pair_scores");
}

}  // namespace fastclip::tests
