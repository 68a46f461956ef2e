// The kernels and operations on every instruction set of this processor, against plain references,
// without Python: for processors that only an emulator stands for. Prints a checksum of all exact
// answers for each instruction set; it is the same everywhere.
#include <cstdio>
#include <string>
#include <vector>

#include "cpu/isa/isa.h"
#include "pixel_case.h"
#include "search_case.h"
#include "tests.h"

int main() {
  using namespace fastclip;
  using namespace fastclip::tests;
  struct Case {
    std::string name;
    SearchCase search;
    PixelCase pixels;
  };
  struct Shape {
    int64_t queries, keys, cols;
  };
  constexpr Shape kShapes[] = {
      {1, 1, 1}, {3, 70, 15}, {13, 333, 49}, {7, 2100, 130}, {37, 150, 20}};
  constexpr const char* kDTypes[] = {"float32", "float16", "bfloat16"};
  std::vector<Case> cases;
  random_state = 1;
  for (const Shape& s : kShapes) {
    for (int dtype = 0; dtype < 3; ++dtype) {
      const Kind kind = Kind((cases.size() + s.queries) % 3);
      cases.push_back({std::to_string(s.queries) + " queries, " + std::to_string(s.keys) +
                           " keys, " + std::to_string(s.cols) + " columns, " + kDTypes[dtype],
                       SearchCase(s.queries, s.keys, s.cols, DType{dtype}, kind),
                       PixelCase(5 + 3 * s.queries, s.cols, DType{dtype}, kind)});
    }
  }
  Run tiles{"emulated AMX", 1};
  check_amx_tiles(tiles);
  for (const std::string& isa : cpu::available_isas()) {
    cpu::select_isa(isa);
    uint64_t checksum = 0;
    for (const int threads : {1, 2}) {
      Run run{isa + ", " + std::to_string(threads) + " threads", threads};
      for (const auto check : {check_buffers, check_codes, check_grid, check_peak, check_plans,
                               check_selection, check_threads, check_topk_of_parts, check_walk}) {
        check(run);
      }
    }
    for (const Case& c : cases) {
      for (const int threads : {1, 2}) {
        Run run{isa + ", " + std::to_string(threads) + " threads, " + c.name, threads};
        c.search.check_scores(run);
        c.search.check_values(run);
        c.search.check_screen(run);
        c.search.check_searches(run);
        c.pixels.check(run);
        checksum = checksum * 31 + run.checksum;
      }
    }
    std::printf("%s %016llx\n", isa.c_str(), static_cast<unsigned long long>(checksum));
  }
}
