#include "fastclip/ops/gaussian_potential.h"

#include <cmath>
#include <memory>

#include "cpu/engine/value_loop.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"
#include "fastclip/element.h"
#include "fastclip/logsumexp.h"

namespace fastclip::cpu {
namespace {

std::vector<double> mean_row(const Matrix& rows, int threads, Interrupt& interrupt) {
  constexpr int64_t kColumns = tuning::kColumnsPerTask;  // whole ones: threads change no sum
  std::vector<double> mean(rows.cols);
  parallel_for(ceil_div(rows.cols, kColumns), threads, interrupt, [&](int64_t task) {
    const int64_t last = std::min((task + 1) * kColumns, rows.cols);
    for (int64_t i = 0; i < rows.rows; ++i) {
      if (i % tuning::kRowsPerPoll == 0 && interrupt.poll()) return;
      for (int64_t c = task * kColumns; c < last; ++c) mean[c] += element(rows, i, c);
    }
    for (int64_t c = task * kColumns; c < last; ++c) mean[c] /= static_cast<double>(rows.rows);
  });
  return mean;
}

// Rows less a centre, in float32, and the squared norms of what is left.
struct Centred {
  Centred(const Matrix& rows, const std::vector<double>& centre, int threads, Interrupt& interrupt)
      : data(rows.rows * rows.cols, Contents::kAnything),
        norms(rows.rows + 64),
        count(rows.rows),
        cols(rows.cols) {
    constexpr int64_t kRows = tuning::kCentredRows;
    parallel_for(ceil_div(rows.rows, kRows), threads, interrupt, [&](int64_t task) {
      for (int64_t i = task * kRows; i < std::min((task + 1) * kRows, rows.rows); ++i) {
        double norm = 0;
        for (int64_t c = 0; c < cols; ++c) {
          const float x = static_cast<float>(element(rows, i, c) - centre[c]);
          data.get()[i * cols + c] = x;
          norm += static_cast<double>(x) * x;
        }
        norms.get()[i] = static_cast<float>(norm);
      }
    });
  }

  Matrix matrix() const {
    return {reinterpret_cast<const char*>(data.get()), DType::kFloat32, count, cols, cols};
  }
  float largest_norm() const { return *std::max_element(norms.get(), norms.get() + count); }

  AlignedBuffer<float> data;
  AlignedBuffer<float> norms;  // readable a vector beyond the last
  int64_t count, cols;
};

// Potential of all pairs, with `first_needed` and `score` as value_sweep takes them and
// `finish_row` to make -||x - y||^2 of a row of scores.
template <class FinishRow>
double potential(const Matrix& x, const Matrix& y, bool symmetric, double t,
                 ValueKernels::Score* score, int threads, Interrupt& interrupt,
                 FinishRow finish_row) {
  const ValueKernels& isa = kernels().value;
  const ValuePlan plan(isa, x.rows, y.rows, x.cols);
  const auto states = log_sum_exp_states(
      plan, x.rows, y.rows, t, threads, interrupt,
      [&](int64_t first_x, int64_t last_x, int64_t first_y, int64_t last_y, LogSumExp* state) {
        const auto first_needed = [&](int64_t i) { return symmetric ? first_x + i + 1 : 0; };
        value_sweep(isa, score, x.slice(first_x, last_x), y, first_y, last_y, plan.key_block,
                    interrupt, first_needed,
                    [&](int64_t first, int64_t rows, float* scores, int64_t ld, int64_t begin,
                        int64_t count) {
                      for (int64_t i = first; i < first + rows; ++i, scores += ld) {
                        finish_row(scores, count, first_x + i, begin);
                        const int64_t skip = std::clamp<int64_t>(first_needed(i) - begin, 0, count);
                        state[i].accumulate(scores + skip, count - skip, t, isa.largest,
                                            isa.sum_exp);
                      }
                    });
      });
  LogSumExp total;
  for (const LogSumExp& state : states) total.merge(state, t);
  const double n = static_cast<double>(x.rows);
  const double pairs = symmetric ? n * (n - 1) / 2 : n * static_cast<double>(y.rows);
  return total.finish(t) - std::log(pairs);
}

}  // namespace

void gaussian_potential(const GaussianPotentialCall& call, int threads, Interrupt& interrupt) {
  const auto &x = call.x, &y = call.y;
  const bool symmetric = call.symmetric;
  const double t = call.t;
  const ValueKernels& isa = kernels().value;
  // ||x||^2 + ||y||^2 - 2 xy loses digits where norms are large compared with the distances that
  // count. Subtracting a common centre removes an offset that all rows share. Where the norms are
  // still large compared with the width of the kernel, the differences are squared instead, at
  // twice the work.
  constexpr double kLargestExponent = 8;
  const std::vector<double> centre = mean_row(y, threads, interrupt);
  if (interrupt.stopped()) return;
  const Centred cx(x, centre, threads, interrupt);
  if (interrupt.stopped()) return;
  const Centred* cy = &cx;
  std::unique_ptr<Centred> other;
  if (!symmetric) {
    other = std::make_unique<Centred>(y, centre, threads, interrupt);
    cy = other.get();
  }
  const double largest = std::max(cx.largest_norm(), cy->largest_norm());
  if (t * largest > kLargestExponent || !std::isfinite(largest)) {
    *call.out.data = potential(x, y, symmetric, t, isa.distances, threads, interrupt,
                               [](float*, int64_t, int64_t, int64_t) {});
    return;
  }
  *call.out.data = potential(
      cx.matrix(), cy->matrix(), symmetric, t, isa.products, threads, interrupt,
      [&](float* scores, int64_t count, int64_t i, int64_t first_y) {
        isa.distances_from_products(scores, count, cx.norms.get()[i], cy->norms.get() + first_y);
      });
}

}  // namespace fastclip::cpu
