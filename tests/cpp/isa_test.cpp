// The operations on every instruction set of this processor, against plain references, without
// Python: for processors that only an emulator stands for. Prints a checksum of all exact answers
// for each instruction set; it is the same everywhere.
#include "cpu/isa/isa.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "cpu/engine/buffer.h"
#include "cpu/engine/screen.h"
#include "cpu/engine/threads.h"
#include "fastclip/element.h"
#include "fastclip/exact_score.h"
#include "fastclip/float16.h"
#include "fastclip/ops/cache_grid.h"
#include "fastclip/ops/count_ahead.h"
#include "fastclip/ops/find_nonfinite.h"
#include "fastclip/ops/group_beats.h"
#include "fastclip/ops/group_max.h"
#include "fastclip/ops/logsumexp.h"
#include "fastclip/ops/pack.h"
#include "fastclip/ops/pair_scores.h"
#include "fastclip/ops/pairs_above.h"
#include "fastclip/ops/pixel_labels.h"
#include "fastclip/ops/pixel_scores.h"
#include "fastclip/ops/refine_masks.h"
#include "fastclip/ops/similarity.h"
#include "fastclip/ops/topk.h"
#include "fastclip/scored_key.h"

namespace {

using namespace fastclip;
using cpu::Interrupt;

using Floats = std::vector<float>;
using Indices = std::vector<int64_t>;

// Views of the numbers, which may be const.
template <class Numbers, class T = std::remove_pointer_t<decltype(std::declval<Numbers&>().data())>>
Array<T> array(Numbers& numbers) {
  return {numbers.data(), {static_cast<int64_t>(numbers.size())}};
}
template <class Numbers, class T = std::remove_pointer_t<decltype(std::declval<Numbers&>().data())>>
Table<T> table(Numbers& numbers, int64_t rows) {
  return {numbers.data(), {rows, static_cast<int64_t>(numbers.size()) / rows}};
}

uint64_t random_state;

uint64_t random_bits() {  // splitmix64
  uint64_t x = random_state += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

int64_t random_below(int64_t n) { return static_cast<int64_t>(random_bits() % n); }

// What the numbers are like: between -1 and 1, of many magnitudes, or -1, 0, 1 for many ties.
enum class Kind { kPlain, kWide, kTies };

float random_number(Kind kind) {
  if (kind == Kind::kTies) return static_cast<float>(random_below(3) - 1);
  const float x = static_cast<float>(random_below(1 << 25) - (1 << 24)) * 0x1p-24f;
  return kind == Kind::kPlain ? x : std::ldexp(x, static_cast<int>(random_below(21)) - 15);
}

// Rows with a gap behind each.
struct Rows {
  Rows(int64_t rows, int64_t cols, DType dtype, Kind kind)
      : rows(rows),
        cols(cols),
        stride(cols + 3),
        dtype(dtype),
        bytes(rows * stride * size_of(dtype)) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) set(i, j, random_number(kind));
    }
  }

  Matrix view() const { return {bytes.data(), dtype, rows, cols, stride}; }

  void set(int64_t i, int64_t j, float x) {
    char* to = bytes.data() + (i * stride + j) * size_of(dtype);
    if (dtype == DType::kFloat32) {
      std::memcpy(to, &x, sizeof(x));
    } else {
      const uint16_t half = dtype == DType::kFloat16 ? float_to_half(x) : float_to_bfloat16(x);
      std::memcpy(to, &half, sizeof(half));
    }
  }

  void copy_row(int64_t from, int64_t to) {
    const int64_t size = stride * size_of(dtype);
    std::memcpy(bytes.data() + to * size, bytes.data() + from * size, size);
  }

  int64_t rows, cols, stride;
  DType dtype;
  std::vector<char> bytes;
};

// exact_score.h, word by word.
float exact_score(const Matrix& queries, int64_t i, const Matrix& keys, int64_t j) {
  double lane[kLanes] = {};
  for (int64_t c = 0; c < queries.cols; ++c) {
    lane[c % kLanes] +=
        static_cast<double>(element(queries, i, c)) * static_cast<double>(element(keys, j, c));
  }
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lane[l] += lane[l + half];
  }
  return static_cast<float>(lane[0]);
}

// One instruction set on one input.
struct Run {
  std::string where;
  int threads;
  uint64_t checksum = 0xcbf29ce484222325u;  // FNV-1a
  Interrupt interrupt{[] { return false; }};

  [[noreturn]] void fail(const std::string& what) const {
    std::fprintf(stderr, "%s: %s differs from the reference\n", where.c_str(), what.c_str());
    std::exit(1);
  }
  void expect(bool right, const char* what) const {
    if (!right) fail(what);
  }

  template <class T>
  void add(const std::vector<T>& answer) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(answer.data());
    for (size_t b = 0; b < answer.size() * sizeof(T); ++b) {
      checksum = (checksum ^ bytes[b]) * 0x100000001b3u;
    }
  }
  template <class T>
  void same(const std::vector<T>& answer, const std::vector<T>& expected, const char* what) {
    const bool equal = answer.size() == expected.size() &&
                       (answer.empty() || std::memcmp(answer.data(), expected.data(),
                                                      answer.size() * sizeof(T)) == 0);
    expect(equal, what);
    add(answer);
  }
};

struct Packed {
  Packed(const Matrix& keys, Run& run)
      : padded(padded_keys(keys.rows)),
        center(keys.cols),
        codes(padded * code_width(keys.cols)),
        bounds(3 * padded),
        view{codes.data(),
             bounds.data(),
             bounds.data() + padded,
             bounds.data() + 2 * padded,
             center.data(),
             keys.rows,
             keys.cols,
             code_width(keys.cols)} {
    cpu::pack({keys, array(center), array(codes), table(bounds, 3)}, run.threads, run.interrupt);
  }

  int64_t padded;
  Floats center;
  std::vector<uint8_t> codes;
  Floats bounds;
  ScreenKeys view;
};

// Queries and keys with all exact scores; the answers follow from these.
class Search {
 public:
  Search(int64_t queries, int64_t keys, int64_t cols, DType dtype, Kind kind)
      : queries_(queries, cols, dtype, kind), keys_(keys, cols, dtype, kind) {
    for (int64_t j = 2; j < keys; j += 5) keys_.copy_row(j / 3, j);  // equal keys
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j < keys; ++j) scores_.push_back(exact_score(q(), i, k(), j));
      targets_.push_back(random_below(keys));
      thresholds_.push_back(score(i, targets_[i]));
    }
    for (int64_t j = 0; j < keys; ++j) groups_.push_back(j % kGroups);
  }

  void check(Run& run) const {
    check_finite(run);
    check_similarity(run);
    check_logsumexp(run);
    Indices in_order = groups_;
    std::sort(in_order.begin(), in_order.end());
    const Packed packed(k(), run);
    for (const ScreenKeys* screen : {static_cast<const ScreenKeys*>(nullptr), &packed.view}) {
      check_topk(run, screen);
      check_count(run, screen);
      check_beats(run, screen);
      check_pairs(run, screen);
      check_groups(run, screen, groups_);
      check_groups(run, screen, in_order);
    }
  }

 private:
  static constexpr int64_t kGroups = 70;

  Matrix q() const { return queries_.view(); }
  Matrix k() const { return keys_.view(); }
  float score(int64_t i, int64_t j) const { return scores_[i * k().rows + j]; }
  bool is_ahead(int64_t i, int64_t j) const {
    return ahead({score(i, j), j}, {thresholds_[i], targets_[i]});
  }

  void check_finite(Run& run) const {
    Rows rows = keys_;
    const auto first = [&] {
      return cpu::find_nonfinite({rows.view(), {}}, run.threads, run.interrupt);
    };
    run.expect(first() == -1, "find_nonfinite");
    rows.set(rows.rows - 1, rows.cols - 1, std::numeric_limits<float>::infinity());
    run.expect(first() == rows.rows - 1, "find_nonfinite of an infinity");
    rows.set(rows.rows / 2, rows.cols / 2, std::numeric_limits<float>::quiet_NaN());
    run.expect(first() == rows.rows / 2, "find_nonfinite of a NaN");
  }

  void check_similarity(Run& run) const {
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

  // Of few among many keys, nearly all must have been dropped unseen.
  void expect_screened(const Run& run, const ScreenKeys* screen, int64_t scored,
                       const char* what) const {
    const bool screened = screen != nullptr || q().rows >= 8;
    if (screened && k().rows > 1000 && k().cols > 32) {
      run.expect(scored < q().rows * k().rows / 4, what);
    }
  }

  void check_topk(Run& run, const ScreenKeys* screen) const {
    const int64_t best = std::min<int64_t>(5, k().rows);
    Floats values(q().rows * best), expected_values;
    Indices indices(q().rows * best), expected_indices;
    for (int64_t i = 0; i < q().rows; ++i) {
      std::vector<ScoredKey> row;
      for (int64_t j = 0; j < k().rows; ++j) row.push_back({score(i, j), j});
      std::sort(row.begin(), row.end(), ahead);
      for (int64_t r = 0; r < best; ++r) {
        expected_values.push_back(row[r].score);
        expected_indices.push_back(row[r].index);
      }
    }
    int64_t scored = 0;
    cpu::topk({q(), k(), screen, table(values, q().rows), table(indices, q().rows), {&scored, {}}},
              run.threads, run.interrupt);
    run.same(values, expected_values, "topk (values)");
    run.same(indices, expected_indices, "topk (indices)");
    expect_screened(run, screen, scored, "topk (pairs scored)");
  }

  void check_count(Run& run, const ScreenKeys* screen) const {
    Indices per_query(q().rows), per_key(k().rows), expected_query(q().rows),
        expected_key(k().rows);
    for (int64_t i = 0; i < q().rows; ++i) {
      for (int64_t j = 0; j < k().rows; ++j) {
        expected_query[i] += is_ahead(i, j);
        expected_key[j] += is_ahead(i, j);
      }
    }
    int64_t scored = 0;
    cpu::count_ahead({q(),
                      k(),
                      screen,
                      array(thresholds_),
                      array(targets_),
                      array(per_query),
                      array(per_key),
                      {&scored, {}}},
                     run.threads, run.interrupt);
    run.same(per_query, expected_query, "count_ahead (of queries)");
    run.same(per_key, expected_key, "count_ahead (of keys)");
    expect_screened(run, screen, scored, "count_ahead (pairs scored)");
  }

  void check_beats(Run& run, const ScreenKeys* screen) const {
    constexpr int64_t kWords = (kGroups + 63) / 64;
    Indices bits(q().rows * kWords), expected(q().rows * kWords);
    int64_t scored = 0;
    for (int64_t i = 0; i < q().rows; ++i) {
      for (int64_t j = 0; j < k().rows; ++j) {
        if (is_ahead(i, j)) {
          expected[i * kWords + groups_[j] / 64] |=
              static_cast<int64_t>(uint64_t{1} << groups_[j] % 64);
        }
      }
    }
    cpu::group_beats({q(),
                      k(),
                      screen,
                      array(thresholds_),
                      array(targets_),
                      array(groups_),
                      table(bits, q().rows),
                      {&scored, {}}},
                     run.threads, run.interrupt);
    run.same(bits, expected, "group_beats");
  }

  void check_pairs(Run& run, const ScreenKeys* screen) const {
    const float threshold = thresholds_[0];
    Floats values, expected_values;
    Indices pairs, expected_pairs;
    for (int64_t i = 0; i < q().rows; ++i) {
      for (int64_t j = 0; j < k().rows; ++j) {
        if (!(score(i, j) > threshold)) continue;
        expected_pairs.push_back(i * k().rows + j);
        expected_values.push_back(score(i, j));
      }
    }
    for (const ScoredPair& pair :
         cpu::pairs_above({q(), k(), screen, threshold, false}, run.threads, run.interrupt)) {
      pairs.push_back(pair.query * k().rows + pair.key);
      values.push_back(pair.score);
    }
    run.same(pairs, expected_pairs, "pairs_above (pairs)");
    run.same(values, expected_values, "pairs_above (values)");
  }

  // Groups in any order are scored exactly; groups of consecutive keys are screened.
  void check_groups(Run& run, const ScreenKeys* screen, const Indices& group_of) const {
    const int64_t groups = std::min(kGroups, k().rows);
    Floats values(q().rows * groups), expected_values(q().rows * groups);
    Indices indices(q().rows * groups), expected_indices(q().rows * groups, -1);
    for (int64_t i = 0; i < q().rows; ++i) {
      for (int64_t j = 0; j < k().rows; ++j) {
        const int64_t at = i * groups + group_of[j];
        if (expected_indices[at] < 0 || score(i, j) > expected_values[at]) {
          expected_values[at] = score(i, j);
          expected_indices[at] = j;
        }
      }
    }
    int64_t scored = 0;
    cpu::group_max({q(),
                    k(),
                    screen,
                    array(group_of),
                    table(values, q().rows),
                    table(indices, q().rows),
                    {&scored, {}}},
                   run.threads, run.interrupt);
    run.same(values, expected_values, "group_max (values)");
    run.same(indices, expected_indices, "group_max (indices)");
  }

  // A number, not a choice: right to a tolerance, and in no checksum.
  void check_logsumexp(Run& run) const {
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

  Rows queries_, keys_;
  Floats scores_, thresholds_;
  Indices targets_, groups_;
};

// Feature pixels of two images and tags.
class Pixels {
 public:
  Pixels(int64_t tags, int64_t cols, DType dtype, Kind kind)
      : pixels_(kImages * kArea, cols, dtype, kind), tags_(tags, cols, dtype, kind) {
    for (int64_t p = 0; p < kImages * kArea; ++p) {
      for (int64_t t = 0; t < tags; ++t) {
        scores_.push_back(exact_score(pixels_.view(), p, tags_.view(), t));
      }
    }
  }

  void check(Run& run) const {
    check_scores(run);
    for (const int64_t k : {1, 3}) check_labels(run, k);
    refine(run);
  }

 private:
  static constexpr int64_t kImages = 2, kH = 3, kW = 4, kArea = kH * kW;
  static constexpr int64_t kHeight = 17, kWidth = 29;  // of the output

  float score(int64_t pixel, int64_t tag) const { return scores_[pixel * tags_.rows + tag]; }

  void check_scores(Run& run) const {
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
  static float lerp(float a, float b, float weight) { return a + weight * (b - a); }

  void check_labels(Run& run, int64_t k) const {
    constexpr float kBackground = 0.25f;
    const int64_t places = kImages * k * kHeight * kWidth;
    Floats values(places), expected_values(places);
    Indices indices(places), expected_indices(places), survivors(kImages);
    for (int64_t b = 0; b < kImages; ++b) {
      for (int64_t pixel = 0; pixel < kHeight * kWidth; ++pixel) {
        const Position y(kH, kHeight, pixel / kWidth), x(kW, kWidth, pixel % kWidth);
        std::vector<ScoredKey> row;
        for (int64_t t = 0; t < tags_.rows; ++t) {
          const auto corner = [&](int64_t y, int64_t x) {
            return score(b * kArea + y * kW + x, t);
          };
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
  void refine(Run& run) const {
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

  Rows pixels_, tags_;
  Floats scores_;
};

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

void check_selection(const Run& run) {
  for (int trial = 0; trial < 3000; ++trial) {
    const int64_t n = 1 + random_below(trial % 10 == 0 ? 1000 : 100);
    const int64_t k = 1 + random_below(n), more = random_below(2) * (n - k) / 4;
    Floats x = numbers_for_selection(n, 0.05 * static_cast<double>(random_below(21)),
                                     random_below(2) == 0);
    Floats sorted = x;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    x.resize(cpu::round_up(n, kLanes), std::numeric_limits<float>::quiet_NaN());
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

}  // namespace

int main() {
  cpu::always_screen(true);
  struct Case {
    std::string name;
    Search search;
    Pixels pixels;
  };
  struct Shape {
    int64_t queries, keys, cols;
  };
  constexpr Shape kShapes[] = {{1, 1, 1}, {3, 70, 15}, {13, 333, 49}, {7, 2100, 130}};
  constexpr const char* kDTypes[] = {"float32", "float16", "bfloat16"};
  std::vector<Case> cases;
  random_state = 1;
  for (const Shape& s : kShapes) {
    for (int dtype = 0; dtype < 3; ++dtype) {
      const Kind kind = Kind((cases.size() + s.queries) % 3);
      cases.push_back({std::to_string(s.queries) + " queries, " + std::to_string(s.keys) +
                           " keys, " + std::to_string(s.cols) + " columns, " + kDTypes[dtype],
                       Search(s.queries, s.keys, s.cols, DType{dtype}, kind),
                       Pixels(5 + 3 * s.queries, s.cols, DType{dtype}, kind)});
    }
  }
  for (const std::string& isa : cpu::available_isas()) {
    cpu::select_isa(isa);
    uint64_t checksum = 0;
    for (const int threads : {1, 2}) {
      Run run{isa + ", " + std::to_string(threads) + " threads", threads};
      check_grid(run);
      check_selection(run);
    }
    for (const Case& c : cases) {
      for (const int threads : {1, 2}) {
        Run run{isa + ", " + std::to_string(threads) + " threads, " + c.name, threads};
        c.search.check(run);
        c.pixels.check(run);
        checksum = checksum * 31 + run.checksum;
      }
    }
    std::printf("%s %016llx\n", isa.c_str(), static_cast<unsigned long long>(checksum));
  }
}
