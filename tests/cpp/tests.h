// Tests without a case of their own, each for one instruction set and number of threads.
#pragma once

#include "run.h"

namespace fastclip::tests {

void check_amx_tiles(Run& run);
void check_buffers(Run& run);
void check_codes(Run& run);
void check_grid(Run& run);
void check_peak(Run& run);
void check_plans(Run& run);
void check_selection(Run& run);
void check_threads(Run& run);
void check_topk_of_parts(Run& run);
void check_walk(Run& run);

}  // namespace fastclip::tests
