// Answers that are numbers, not choices: right to a tolerance, and in no checksum.
#include <algorithm>
#include <cmath>
#include <limits>

#include "fastclip/ops/cache_grid.h"
#include "fastclip/ops/logsumexp.h"
#include "search_case.h"
#include "tests.h"

namespace fastclip::tests {

void SearchCase::check_values(Run& run) const {
  constexpr double kScale = 1.5;
  Floats out(q().rows);
  cpu::logsumexp({q(), k(), kScale, true, array(out)}, run.threads, run.interrupt);
  for (int64_t i = 0; i < q().rows; ++i) {
    double most = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j = 0; j < k().rows; ++j) most = std::max<double>(most, score(i, j));
    for (int64_t j = 0; j < k().rows; ++j) sum += std::exp(kScale * (score(i, j) - most));
    const double expected = kScale * most + std::log(sum);
    // Terms of a score may be larger than it.
    run.expect(std::abs(out[i] - expected) < 1e-5 * (std::abs(expected) + k().cols), "logsumexp");
  }
}

// cache_grid against scores of all classes for each pair; images that are nearly a tie may go
// either way.
void check_grid(Run& run) {
  constexpr int64_t kImages = 70, kSupport = 23, kClasses = 11, kBetas = 70;
  const std::vector<double> alphas = {0.5, 1, 2, 8};
  random_state = 11;
  const auto numbers = [](int64_t count, double scale) {
    std::vector<double> out(count);
    for (double& x : out) x = scale * random_number(Kind::kPlain);
    return out;
  };
  const auto below = [](int64_t count, int64_t n) {
    Indices out(count);
    for (int64_t& x : out) x = random_below(n);
    return out;
  };
  const auto affinities = numbers(kImages * kSupport, 1),
             zero_shot = numbers(kImages * kClasses, 2);
  const Indices labels = below(kImages, kClasses);
  const Indices of_support = below(kSupport, kClasses - 2);  // two classes have none
  const int64_t count = static_cast<int64_t>(alphas.size());
  Indices right(kBetas * count);
  cpu::cache_grid({table(affinities, kImages), table(zero_shot, kImages), array(labels),
                   array(of_support), 0.1, 0.2, array(alphas), table(right, kBetas)},
                  run.threads, run.interrupt);
  for (int64_t pair = 0; pair < kBetas * count; ++pair) {
    const double beta = 0.1 + 0.2 * static_cast<double>(pair / count), alpha = alphas[pair % count];
    int64_t surely = 0, maybe = 0;
    for (int64_t i = 0; i < kImages; ++i) {
      std::vector<double> scores(zero_shot.begin() + i * kClasses,
                                 zero_shot.begin() + (i + 1) * kClasses);
      for (int64_t j = 0; j < kSupport; ++j) {
        scores[of_support[j]] += alpha * std::exp(beta * (affinities[i * kSupport + j] - 1));
      }
      const double own = scores[labels[i]];
      scores[labels[i]] = -std::numeric_limits<double>::infinity();
      const double lead = own - *std::max_element(scores.begin(), scores.end());
      surely += lead > 1e-9;
      maybe += lead > -1e-9;
    }
    run.expect(surely <= right[pair] && right[pair] <= maybe, "cache_grid");
  }
}

}  // namespace fastclip::tests
