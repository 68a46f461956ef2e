#pragma once

#include <pybind11/pybind11.h>

namespace fastclip::bindings {

struct Modules {
  pybind11::module_ cpu;
  pybind11::module_ cuda;  // null in builds without CUDA
};

void define_operations(Modules& modules);

}  // namespace fastclip::bindings
