// The private module fastclip._C: takes addresses and shapes, releases the GIL, calls the kernels.
// Python has checked the arguments and owns the memory.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../cpu/isa.h"
#include "../cpu/ops.h"
#include "fastclip/matrix.h"

namespace py = pybind11;
using fastclip::DType;
using fastclip::Matrix;
using fastclip::MutableMatrix;
using fastclip::cpu::Interrupt;

namespace {

// Runs `work` without the GIL; Ctrl-C ends it early and raises KeyboardInterrupt.
template <class Work>
auto without_gil(Work work) {
  Interrupt interrupt([] {
    py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  });
  auto result = [&] {
    py::gil_scoped_release release;
    return work(interrupt);
  }();
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  return result;
}

MutableMatrix mutable_view(const Matrix& m) {
  return {const_cast<char*>(m.data), m.dtype, m.rows, m.cols, m.row_stride};
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  py::class_<Matrix>(m, "Matrix")
      .def(py::init([](uintptr_t address, int dtype, int64_t rows, int64_t cols, int64_t stride) {
        // Empty arrays have any stride and no address: nothing may be added to that.
        const int64_t row_stride = rows * cols == 0 ? 0 : stride;
        return Matrix{reinterpret_cast<const char*>(address), DType{dtype}, rows, cols, row_stride};
      }));

  m.def("find_nonfinite", [](const Matrix& rows, int threads) {
    return without_gil([&](Interrupt& interrupt) {
      return fastclip::cpu::find_nonfinite(rows, threads, interrupt);
    });
  });

  m.def("similarity",
        [](const Matrix& queries, const Matrix& keys, const Matrix& out, int threads) {
          without_gil([&](Interrupt& interrupt) {
            fastclip::cpu::similarity(queries, keys, mutable_view(out), threads, interrupt);
            return 0;
          });
        });

  m.def("topk", [](const Matrix& queries, const Matrix& keys, int64_t k, uintptr_t values,
                   uintptr_t indices, int threads) {
    without_gil([&](Interrupt& interrupt) {
      fastclip::cpu::topk(queries, keys, k, reinterpret_cast<float*>(values),
                          reinterpret_cast<int64_t*>(indices), threads, interrupt);
      return 0;
    });
  });

  m.def("logsumexp",
        [](const Matrix& queries, const Matrix& keys, double scale, uintptr_t out, int threads) {
          without_gil([&](Interrupt& interrupt) {
            fastclip::cpu::logsumexp(queries, keys, scale, reinterpret_cast<float*>(out), threads,
                                     interrupt);
            return 0;
          });
        });

  m.def("gaussian_potential",
        [](const Matrix& x, const Matrix& y, bool symmetric, double t, int threads) {
          return without_gil([&](Interrupt& interrupt) {
            return fastclip::cpu::gaussian_potential(x, y, symmetric, t, threads, interrupt);
          });
        });

  m.def("cache_logits", [](const Matrix& queries, const Matrix& keys, const Matrix& values,
                           double beta, uintptr_t out, int threads) {
    without_gil([&](Interrupt& interrupt) {
      fastclip::cpu::cache_logits(queries, keys, values, beta, reinterpret_cast<float*>(out),
                                  threads, interrupt);
      return 0;
    });
  });

  m.def("available_isas", &fastclip::cpu::available_isas);
  m.def("isa", [] { return std::string(fastclip::cpu::kernels().name); });
  m.def("select_isa", &fastclip::cpu::select_isa);
  m.attr("compiler") = FASTCLIP_COMPILER;
}
