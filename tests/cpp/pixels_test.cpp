// Scores and labels of pixels, and the refinement of masks.
#include <algorithm>

#include "fastclip/ops/pixel_labels.h"
#include "fastclip/ops/pixel_scores.h"
#include "fastclip/ops/refine_masks.h"
#include "fastclip/scored_key.h"
#include "pixel_case.h"

namespace fastclip::tests {
namespace {

// bilinear.h, word by word.
struct Position {
  Position(int64_t in, int64_t out, int64_t i) {
    const float scale = static_cast<float>(in) / static_cast<float>(out);
    const float product = static_cast<float>(static_cast<double>(scale) * (i + 0.5));
    const float at = std::max(product - 0.5f, 0.0f);
    low = std::min(static_cast<int64_t>(at), in - 1);
    high = std::min(low + 1, in - 1);
    weight = std::min(at - static_cast<float>(low), 1.0f - 0x1p-24f);
  }
  int64_t low, high;
  float weight;
};
float lerp(float a, float b, float weight) { return a + weight * (b - a); }

}  // namespace

void PixelCase::check(Run& run) const {
  check_scores(run);
  for (const int64_t k : {1, 3}) check_labels(run, k);
  refine(run);
}

void PixelCase::check_scores(Run& run) const {
  const int64_t tags = tags_.rows;
  Floats values(kImages * tags), expected_values;
  Indices locations(kImages * tags), expected_locations;
  for (int64_t b = 0; b < kImages; ++b) {
    for (int64_t t = 0; t < tags; ++t) {
      ScoredKey best = {score(b * kArea, t), 0};
      for (int64_t p = 1; p < kArea; ++p) {
        const ScoredKey other = {score(b * kArea + p, t), p};
        if (ahead(other, best)) best = other;
      }
      expected_values.push_back(best.score);
      expected_locations.push_back(best.index);
    }
  }
  cpu::pixel_scores(
      {pixels_.view(), kArea, tags_.view(), table(values, kImages), table(locations, kImages)},
      run.threads, run.interrupt);
  run.same(values, expected_values, "pixel_scores (values)");
  run.same(locations, expected_locations, "pixel_scores (locations)");
}

void PixelCase::check_labels(Run& run, int64_t k) const {
  constexpr float kBackground = 0.25f;
  const int64_t places = kImages * k * kHeight * kWidth;
  Floats values(places), expected_values(places);
  Indices indices(places), expected_indices(places), survivors(kImages);
  for (int64_t b = 0; b < kImages; ++b) {
    for (int64_t pixel = 0; pixel < kHeight * kWidth; ++pixel) {
      const Position y(kH, kHeight, pixel / kWidth), x(kW, kWidth, pixel % kWidth);
      std::vector<ScoredKey> row;
      for (int64_t t = 0; t < tags_.rows; ++t) {
        const auto corner = [&](int64_t y, int64_t x) { return score(b * kArea + y * kW + x, t); };
        const float left = lerp(corner(y.low, x.low), corner(y.high, x.low), y.weight);
        const float right = lerp(corner(y.low, x.high), corner(y.high, x.high), y.weight);
        row.push_back({lerp(left, right, x.weight), t});
      }
      row.push_back({kBackground, -1});  // behind all tags that equal it
      std::stable_sort(row.begin(), row.end(),
                       [](const ScoredKey& a, const ScoredKey& b) { return a.score > b.score; });
      for (int64_t r = 0; r < k; ++r) {
        const int64_t at = (b * k + r) * kHeight * kWidth + pixel;
        expected_values[at] = row[r].score;
        expected_indices[at] = row[r].index;
      }
    }
  }
  cpu::pixel_labels({pixels_.view(),
                     kH,
                     kW,
                     tags_.view(),
                     kBackground,
                     {values.data(), {kImages, k, kHeight, kWidth}},
                     {indices.data(), {kImages, k, kHeight, kWidth}},
                     array(survivors),
                     {}},
                    run.threads, run.interrupt);
  run.same(values, expected_values, "pixel_labels (values)");
  run.same(indices, expected_indices, "pixel_labels (indices)");
  run.add(survivors);
}

// Without a reference: the same bits on all instruction sets.
void PixelCase::refine(Run& run) const {
  constexpr int64_t kChannels = 3, kMasks = 2;
  Floats image(kChannels * kHeight * kWidth), masks(kMasks * kHeight * kWidth), out(masks.size());
  random_state = 7;
  for (float& x : image) x = random_number(Kind::kPlain);
  for (float& x : masks) x = random_number(Kind::kPlain);
  cpu::refine_masks({{image.data(), {1, kChannels, kHeight, kWidth}},
                     {masks.data(), {1, kMasks, kHeight, kWidth}},
                     {},
                     {},
                     3,
                     {1, 2, 4},
                     {out.data(), {1, kMasks, kHeight, kWidth}}},
                    run.threads, run.interrupt);
  run.add(out);
}

}  // namespace fastclip::tests
