// Codes of queries keep to the limits of their instruction set, and its kernels multiply them with
// any codes of keys without an overflow.
#include <algorithm>
#include <bit>
#include <cmath>

#include "cpu/isa/isa.h"
#include "inputs.h"
#include "tests.h"

namespace fastclip::tests {
namespace {

constexpr int64_t kCodes = 64;

// A rotation by a Hadamard matrix alone, and a row that it turns into `rotated`.
const Floats kSigns(kCodes, 1.0f / kCodes);
const cpu::Rotation kHadamard{kCodes, 6, kSigns.data()};

template <class Number>
std::vector<Number> hadamard(const Floats& row) {
  std::vector<Number> sums(kCodes);
  for (uint64_t i = 0; i < kCodes; ++i) {
    for (uint64_t j = 0; j < kCodes; ++j) {
      sums[i] += std::popcount(i & j) % 2 == 0 ? row[j] : -row[j];
    }
  }
  return sums;
}

Floats unrotated(const Floats& rotated) { return hadamard<float>(rotated); }

std::vector<double> rotated_exactly(const Floats& row) {
  std::vector<double> rotated = hadamard<double>(row);
  for (double& x : rotated) x /= kCodes;
  return rotated;
}

// Rotated rows whose codes are as large together as they can be: equal ones, in a strip or in all
// strips, of one or of both signs; one number alone; halves, which are rounded up.
std::vector<Floats> hostile_rows() {
  std::vector<Floats> rows;
  for (const float value : {1.0f, -1.0f, 0.5f, 15.5f, 1e-20f, 3e30f}) {
    Floats all(kCodes, value), strip(kCodes), turns(kCodes), one(kCodes);
    for (int64_t j = 0; j < kCodes; ++j) {
      if (j / 16 == 2 && (j & 2) == 0) strip[j] = value;
      turns[j] = j % 2 == 0 ? value : -value;
    }
    one[37] = value;
    rows.insert(rows.end(), {all, strip, turns, one});
  }
  for (int row = 0; row < 20; ++row) {
    Floats random(kCodes);
    for (float& x : random) x = random_number(row % 2 == 0 ? Kind::kPlain : Kind::kWide);
    rows.push_back(random);
  }
  return rows;
}

int64_t largest_strip(const int8_t* codes) {
  int64_t largest = 0;
  for (int64_t strip = 0; strip < kCodes; strip += 16) {
    for (const int64_t bit : {0, 2}) {
      int64_t above = 0, below = 0;
      for (int64_t j = strip; j < strip + 16; ++j) {
        if ((j & 2) != bit) continue;
        above += std::max<int64_t>(codes[j], 0);
        below -= std::min<int64_t>(codes[j], 0);
      }
      largest = std::max({largest, above, below});
    }
  }
  return largest;
}

void check_products(const Run& run, const std::vector<int8_t>& queries) {
  const cpu::Kernels& isa = cpu::kernels();
  const int64_t count = static_cast<int64_t>(queries.size()) / kCodes;
  std::vector<uint8_t> keys(kPanel * kCodes);  // [kCodes / 4][kPanel][4]
  for (size_t at = 0; at < keys.size(); ++at) {
    const size_t key = at / 4 % kPanel;
    keys[at] = key == 0 ? 255 : key == 1 ? 1 : random_below(2) == 0 ? 1 : 255;
  }
  const Floats ones(kPanel, 1.0f), zeros(kPanel);
  ScreenKeys panel;
  panel.codes = keys.data();
  panel.scale = ones.data();
  panel.error = panel.norm = zeros.data();
  panel.keys = kPanel;
  panel.cols = panel.width = kCodes;
  std::vector<ScreenQuery> coefficients(count);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < kCodes; ++j)
      coefficients[i].correction -= 128 * queries[i * kCodes + j];
  }
  Floats uppers(count * kPanel);
  isa.write_uppers({queries.data(), {}, coefficients.data(), count, panel},
                   {uppers.data(), kPanel});
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t key = 0; key < kPanel; ++key) {
      int64_t dot = 0;
      for (int64_t j = 0; j < kCodes; ++j) {
        dot += queries[i * kCodes + j] * (keys[(j / 4 * kPanel + key) * 4 + j % 4] - 128);
      }
      run.expect(uppers[i * kPanel + key] == static_cast<float>(dot), "products of codes");
    }
  }
}

}  // namespace

void check_codes(Run& run) {
  const cpu::Kernels& isa = cpu::kernels();
  if (isa.query_codes.largest == 0) return;
  random_state = 7;
  const Floats origin(kCodes);
  std::vector<int8_t> all;
  for (const Floats& rotated : hostile_rows()) {
    const Floats row = unrotated(rotated);
    const Matrix rows{reinterpret_cast<const char*>(row.data()), DType::kFloat32, 1, kCodes,
                      kCodes};
    std::vector<int8_t> codes(kCodes);
    Floats scratch(kCodes);
    RowSums sums;
    isa.encode_rows(rows, kHadamard, origin.data(), isa.query_codes, scratch.data(), codes.data(),
                    &sums);
    const std::vector<double> exact = rotated_exactly(row);
    double error = 0, squares = 0;
    for (int64_t j = 0; j < kCodes; ++j) {
      run.expect(std::abs(codes[j]) <= isa.query_codes.largest, "a code");
      error += std::pow(exact[j] - static_cast<double>(sums.scale) * codes[j], 2);
      squares += exact[j] * exact[j];
    }
    const double lost = rotation_error(kHadamard.log2_block, 1) * std::sqrt(squares);
    run.expect(std::sqrt(error) <= std::sqrt(sums.error_squared) + lost, "the error of codes");
    if (isa.query_codes.narrow_sums) {
      run.expect(largest_strip(codes.data()) <= cpu::kLargestStrip, "the sum of a strip");
      // No coarser than it must be.
      run.expect(largest_strip(codes.data()) > cpu::kLargestStrip - 13 ||
                     *std::max_element(codes.begin(), codes.end()) == 127 ||
                     *std::min_element(codes.begin(), codes.end()) == -127,
                 "codes that use their range");
    }
    all.insert(all.end(), codes.begin(), codes.end());
  }
  check_products(run, all);
}

}  // namespace fastclip::tests
