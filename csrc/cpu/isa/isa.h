// The instruction sets built in, those that this processor has, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "cpu/isa/kernels.h"

namespace fastclip::cpu {

// Names of the instruction sets that this processor can run, best first.
std::vector<std::string> available_isas();

// The kernels in use: the best ones, unless FASTCLIP_CPU_CAPABILITY or select_isa named others.
const Kernels& kernels();

// Uses the named instruction set from now on; an empty name goes back to the default. Throws
// std::invalid_argument where the name is unknown or the processor lacks the instructions.
void select_isa(const std::string& name);

}  // namespace fastclip::cpu
