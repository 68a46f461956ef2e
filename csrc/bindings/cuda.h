// What the bindings of the CUDA operations share. Each file of them has one function that adds its
// operations to the module fastclip._C.cuda.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>

#include "bindings/gil.h"
#include "cuda/ops.h"
#include "fastclip/exact_score.h"

namespace fastclip::bindings {

namespace py = pybind11;

// Calls return as soon as their work is in the stream, but that may have to wait for room. Numbers
// on their way to a kernel keep denormals.
using NoGil = py::call_guard<ReleasedGil, FloatEnvironment>;

inline cuda::Stream stream_at(uintptr_t address) { return reinterpret_cast<cuda::Stream>(address); }

inline MutableMatrix mutable_view(const Matrix& m) {
  return {const_cast<char*>(m.data), m.dtype, m.rows, m.cols, m.row_stride};
}

void bind_screen(py::module_& m);
void bind_values(py::module_& m);
void bind_pixels(py::module_& m);

}  // namespace fastclip::bindings
