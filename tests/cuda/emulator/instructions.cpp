// Matrix instructions and background copies of all devices.
#include <algorithm>
#include <cmath>

#include "fastclip/float16.h"
#include "scheduler.h"

namespace fastclip::cuda::emulator {

namespace {

struct MmaInput {
  const uint32_t* a;
  const uint32_t* b;
};

}  // namespace

void mma_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const MmaInput mine{a, b};
  meet(0xffffffffu, &mine, d, [](const void* const(&in)[32], void* const(&out)[32]) {
    int16_t left[16][32];
    int16_t right[8][32];
    for (int l = 0; l < 32; ++l) {
      if (in[l] == nullptr) fail("mma needs all lanes of the warp");
      const MmaInput& lane = *static_cast<const MmaInput*>(in[l]);
      for (int i = 0; i < 4; ++i) {
        for (int byte = 0; byte < 4; ++byte) {
          left[l / 4 + 8 * (i % 2)][4 * (l % 4) + 16 * (i / 2) + byte] =
              static_cast<int8_t>(lane.a[i] >> (8 * byte));
        }
      }
      for (int i = 0; i < 2; ++i) {
        for (int byte = 0; byte < 4; ++byte) {
          right[l / 4][4 * (l % 4) + 16 * i + byte] = static_cast<int8_t>(lane.b[i] >> (8 * byte));
        }
      }
    }
    for (int l = 0; l < 32; ++l) {
      for (int i = 0; i < 4; ++i) {
        const int16_t* x = left[l / 4 + 8 * (i / 2)];
        const int16_t* y = right[2 * (l % 4) + i % 2];
        int sum = 0;
        for (int k = 0; k < 32; ++k) sum += x[k] * y[k];
        static_cast<int*>(out[l])[i] += sum;
      }
    }
  });
}

// The sum of nine numbers, each cut to 24 bits below the largest one, cut to float32: the least
// precise that devices have been seen to do.
static float cut_sum(const double (&addends)[9]) {
  double largest = 0;
  for (double x : addends) largest = std::max(largest, std::abs(x));
  if (largest == 0) return 0;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(largest) - 23, -149));
  int64_t units = 0;
  for (double x : addends) units += static_cast<int64_t>(x / unit);
  const double sum = static_cast<double>(units) * unit;
  const auto rounded = static_cast<float>(sum);
  return std::abs(rounded) > std::abs(sum) ? std::nextafter(rounded, 0.0f) : rounded;
}

void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const MmaInput mine{a, b};
  meet(0xffffffffu, &mine, d, [](const void* const(&in)[32], void* const(&out)[32]) {
    double left[16][16];
    double right[8][16];
    const auto half = [](uint32_t pair, int i) {
      return half_to_float(static_cast<uint16_t>(pair >> (16 * i)));
    };
    for (int l = 0; l < 32; ++l) {
      if (in[l] == nullptr) fail("mma needs all lanes of the warp");
      const MmaInput& lane = *static_cast<const MmaInput*>(in[l]);
      for (int i = 0; i < 4; ++i) {
        for (int e = 0; e < 2; ++e) {
          left[l / 4 + 8 * (i % 2)][2 * (l % 4) + 8 * (i / 2) + e] = half(lane.a[i], e);
        }
      }
      for (int i = 0; i < 2; ++i) {
        for (int e = 0; e < 2; ++e) right[l / 4][2 * (l % 4) + 8 * i + e] = half(lane.b[i], e);
      }
    }
    for (int l = 0; l < 32; ++l) {
      for (int i = 0; i < 4; ++i) {
        const double* x = left[l / 4 + 8 * (i / 2)];
        const double* y = right[2 * (l % 4) + i % 2];
        float sum = static_cast<float*>(out[l])[i];
        for (int k = 0; k < 16; k += 8) {
          double addends[9] = {sum};
          for (int j = 0; j < 8; ++j) addends[j + 1] = x[k + j] * y[k + j];
          sum = cut_sum(addends);
        }
        static_cast<float*>(out[l])[i] = sum;
      }
    }
  });
}

void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fail("a row for ldmatrix is not aligned");
  meet(0xffffffffu, row, out, [](const void* const(&in)[32], void* const(&to)[32]) {
    for (int l = 0; l < 32; ++l) {
      if (in[l] == nullptr) fail("ldmatrix needs all lanes of the warp");
      for (int tile = 0; tile < 4; ++tile) {
        const auto* from = static_cast<const char*>(in[8 * tile + l / 4]);
        std::memcpy(static_cast<uint32_t*>(to[l]) + tile, from + 4 * (l % 4), 4);
      }
    }
  });
}

void cp_async(void* shared, const void* global, int bytes, bool valid) {
  const auto misaligned = [&](const void* p) {
    return reinterpret_cast<uintptr_t>(p) % bytes != 0;
  };
  if (misaligned(shared) || (valid && misaligned(global))) fail("a background copy is not aligned");
  std::memset(shared, kGarbage, static_cast<size_t>(bytes));
  auto& copies = scheduler.current->copies;
  if (copies.empty()) copies.emplace_back();
  copies.back().push_back({shared, valid ? global : nullptr, bytes});
}

void cp_async_commit() {
  auto& copies = scheduler.current->copies;
  if (copies.empty()) copies.emplace_back();
  copies.emplace_back();
}

void cp_async_wait(int pending) {
  auto& copies = scheduler.current->copies;
  while (static_cast<int>(copies.size()) - 1 > pending) {
    finish_copies(copies.front());
    copies.pop_front();
  }
}

}  // namespace fastclip::cuda::emulator
