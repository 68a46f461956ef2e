// What one thread of this processor can do at most, from registers: billions of operations a second
// in float32, float64 and int8, a multiplication and an addition counting as two; without VNNI,
// four pairs of products are added in 16 bits, as the screen does it. And what it reads from
// memory, in billions of bytes a second.
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr int kSums = 12;  // that do not wait for one another

template <class Step>
double rate(double operations_per_step, Step step) {
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    constexpr int kSteps = 4'000'000;
    const auto begin = std::chrono::steady_clock::now();
    step(kSteps);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best = std::max(best, operations_per_step * kSteps / seconds.count() / 1e9);
  }
  return best;
}

// Keeps the compiler from seeing through the sums.
template <class Vec>
void hide(Vec& v) {
  asm volatile("" : "+v"(v));
}

template <class Vec, class Multiply>
double vector_rate(double lanes, Multiply multiply) {
  return rate(2 * lanes * kSums, [&](int steps) {
    Vec sums[kSums] = {}, a = {}, b = {};
    hide(b);
    for (int s = 0; s < steps; ++s) {
#pragma GCC unroll 16
      for (int i = 0; i < kSums; ++i) {
        hide(a);  // or products that are the same in every step are made once
        sums[i] = multiply(sums[i], a, b);
        hide(sums[i]);
      }
    }
  });
}

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#else
constexpr int kBytes = 32;
#endif
typedef float Floats __attribute__((vector_size(kBytes)));
typedef double Doubles __attribute__((vector_size(kBytes)));

#if defined(__AMX_INT8__)
// Of matrix units, or 0 where they may not be used.
double tile_rate() {
  if (syscall(SYS_arch_prctl, 0x1023, 18) != 0) return 0;
  struct alignas(64) {
    uint8_t palette = 1, rest[15] = {};
    uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } layout;
  _tile_loadconfig(&layout);
  const double found = rate(2.0 * 4 * 16 * 16 * 64, [](int steps) {
    for (int s = 0; s < steps; ++s) {
      _tile_dpbsud(0, 4, 6);
      _tile_dpbsud(1, 4, 7);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    }
  });
  _tile_release();
  return found;
}
#else
double tile_rate() { return 0; }
#endif

double vector_int8_rate() {
#if defined(__AVX512VNNI__)
  return vector_rate<__m512i>(
      64, [](__m512i s, __m512i a, __m512i b) { return _mm512_dpbusd_epi32(s, a, b); });
#elif defined(__AVX512BW__)
  return vector_rate<__m512i>(4 * 64, [](__m512i s, __m512i a, __m512i b) {
    __m512i pairs = _mm512_maddubs_epi16(a, b);
    for (int i = 1; i < 4; ++i) {
      hide(a);
      pairs = _mm512_add_epi16(pairs, _mm512_maddubs_epi16(a, b));
    }
    return _mm512_add_epi32(s, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  });
#elif defined(__AVXVNNI__)
  return vector_rate<__m256i>(
      32, [](__m256i s, __m256i a, __m256i b) { return _mm256_dpbusd_avx_epi32(s, a, b); });
#else
  return vector_rate<__m256i>(4 * 32, [](__m256i s, __m256i a, __m256i b) {
    __m256i pairs = _mm256_maddubs_epi16(a, b);
    for (int i = 1; i < 4; ++i) {
      hide(a);
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(a, b));
    }
    return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  });
#endif
}

double int8_rate() { return std::max(vector_int8_rate(), tile_rate()); }

double read_rate() {
  std::vector<int64_t> data(64 << 20, 1);
  double best = 0;
  for (int round = 0; round < 3; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    int64_t sum = 0;
    for (int64_t x : data) sum += x;
    asm volatile("" : : "r"(sum));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best = std::max(best, 8.0 * static_cast<double>(data.size()) / seconds.count() / 1e9);
  }
  return best;
}

struct Rates {
  double float32, float64, int8, bytes;
};

Rates measure() {
  const auto multiply = [](auto s, auto a, auto b) { return s + a * b; };
  return {vector_rate<Floats>(kBytes / 4, multiply), vector_rate<Doubles>(kBytes / 8, multiply),
          int8_rate(), read_rate()};
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  std::vector<Rates> rates(threads);
  std::vector<std::thread> workers;
  for (Rates& r : rates) workers.emplace_back([&r] { r = measure(); });
  for (std::thread& worker : workers) worker.join();
  Rates total{};
  for (const Rates& r : rates) {
    total.float32 += r.float32;
    total.float64 += r.float64;
    total.int8 += r.int8;
    total.bytes += r.bytes;
  }
  std::printf("{\"float32\": %.1f, \"float64\": %.1f, \"int8\": %.1f, \"bytes\": %.1f}\n",
              total.float32, total.float64, total.int8, total.bytes);
}
