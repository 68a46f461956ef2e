// What tests share: expectations, and a checksum of exact answers.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpu/engine/threads.h"
#include "fastclip/view.h"

namespace fastclip::tests {

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

// One instruction set on one input.
struct Run {
  std::string where;
  int threads;
  uint64_t checksum = 0xcbf29ce484222325u;  // FNV-1a
  cpu::Interrupt interrupt{[] { return false; }};

  void expect(bool right, const char* what) const {
    if (right) return;
    std::fprintf(stderr, "%s: %s: not as expected\n", where.c_str(), what);
    std::exit(1);
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

}  // namespace fastclip::tests
