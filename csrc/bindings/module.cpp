// The private module fastclip._C: the table of operations, short ways for the smallest calls, and
// what else Python asks of the extension.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>

#include "bindings/gil.h"
#include "bindings/table.h"
#include "bindings/tensors.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"
#include "fastclip/exact_score.h"
#include "fastclip/ops/logsumexp.h"
#include "fastclip/ops/topk.h"
#include "fastclip/screen.h"
#ifdef FASTCLIP_CUDA
#include "cuda/arch/versions.h"
#include "cuda/tuning.h"
#endif

namespace fastclip::bindings {
namespace {

// Values, indices, how many pairs were scored and the first row that is not finite or -1. None
// where a tensor is not plain (Tensors::rows), k is out of range, or keys that are not packed may
// be worth packing.
py::object plain_topk(py::handle queries, py::handle keys, const py::tuple& screen, py::handle k,
                      int64_t pack_from_queries, int64_t pack_from_keys, bool always_screen,
                      int threads) {
  const Tensors& t = tensors();
  const auto q = t.rows(queries);
  const auto x = q ? t.rows(keys) : std::nullopt;
  int too_large = 0;
  const int64_t best = PyLong_AsLongLongAndOverflow(k.ptr(), &too_large);
  if (!x || q->cols != x->cols || too_large != 0 || best < 1 || best > x->rows) return py::none();
  TopKCall call{*q, *x, nullptr, {}, {nullptr, {q->rows, best}}, {nullptr, {q->rows, best}}, {}};
  std::optional<ScreenKeys> codes;
  if (screen.empty()) {
    if (q->rows >= pack_from_queries && x->rows >= pack_from_keys) return py::none();
  } else if (always_screen || cpu::worth_codes(q->rows, x->rows, best)) {
    codes = t.screen(screen[0], screen[1], screen[2], x->rows, x->cols);
    if (!codes) return py::none();
    call.screen = &*codes;
  }
  int64_t survivors = 0;
  call.survivors.data = &survivors;
  py::object values, indices;
  std::tie(values, call.values) = t.empty(call.values);
  std::tie(indices, call.indices) = t.empty(call.indices);
  const int64_t row = without_gil([&](cpu::Interrupt& interrupt) {
    return cpu::topk(call, cpu::Screening{always_screen}, threads, interrupt);
  });
  return py::make_tuple(values, indices, survivors, row);
}

// The result and the first row that is not finite or -1; None where a tensor is not plain.
py::object plain_logsumexp(py::handle queries, py::handle keys, double scale, bool check_keys,
                           int threads) {
  const Tensors& t = tensors();
  const auto q = t.rows(queries);
  const auto x = q ? t.rows(keys) : std::nullopt;
  if (!x || q->cols != x->cols) return py::none();
  auto [out, view] = t.empty(Array<float>{nullptr, {q->rows}});
  const LogSumExpCall call{*q, *x, scale, check_keys, view};
  const int64_t row = without_gil(
      [&](cpu::Interrupt& interrupt) { return cpu::logsumexp(call, threads, interrupt); });
  return py::make_tuple(out, row);
}

void define_plain(py::module_& m) {
  m.def("set_tensor_types", &set_tensor_types);
  m.def("is_plain", [](py::handle rows) { return tensors().rows(rows).has_value(); });
  m.def("plain_topk", &plain_topk);
  m.def("plain_logsumexp", &plain_logsumexp);
  m.def("dlpack_is_writable", &is_writable);
}

void define_settings(py::module_& m) {
  m.def("code_width", &code_width);
  m.attr("panel") = kPanel;
  m.attr("center_sample") = cpu::tuning::kCenterSample;
  m.def("value_blocks", [](int64_t num_keys, int64_t cols) {
    const auto blocks = cpu::value_blocks(num_keys, cols);
    return std::array<int64_t, 3>{blocks.block, blocks.part, blocks.parts};
  });
  m.def("worth_codes", &cpu::worth_codes);
  m.def("has_screen", [] { return cpu::kernels().query_codes.largest > 0; });
  m.def("available_isas", &cpu::available_isas);
  m.def("isa", [] { return std::string(cpu::kernels().name); });
  m.def("select_isa", &cpu::select_isa);
  m.attr("compiler") = FASTCLIP_COMPILER;
  m.def("park_other_threads", &ReleasedGil::park_others);

  // float(x), where the conversion from float32 must keep denormals.
  m.def("to_float", [](py::handle x) {
    FloatEnvironment environment;
    const double number = PyFloat_AsDouble(x.ptr());
    if (number == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    return number;
  });
}

// What one core does at most, for fastclip/benchmark/peak.py: how many operations, or bytes.
void define_peak(py::module_& m) {
  m.def("peak_steps", [](const std::string& kind, int64_t steps) {
    const cpu::PeakKernels& peak = cpu::kernels().peak;
    const auto run = kind == "float32"   ? peak.float32
                     : kind == "float64" ? peak.float64
                     : kind == "int8"    ? peak.int8
                                         : throw py::value_error("kind: is " + kind);
    return without_gil([&](cpu::Interrupt&) { return run(steps); });
  });
  m.def("peak_read", [](py::handle row) {
    const auto x = tensors().rows(row);
    if (!x || x->dtype != DType::kFloat32 || x->rows != 1) {
      throw py::value_error("row: is no plain [1, n] tensor of float32");
    }
    const auto* numbers = reinterpret_cast<const float*>(x->data);
    return without_gil([&](cpu::Interrupt&) { return cpu::kernels().peak.read(numbers, x->cols); });
  });
}

#ifdef FASTCLIP_CUDA
void define_cuda_settings(py::module_& m) {
  m.attr("emulated") = cuda::emulated();
  m.attr("toolkit") = cuda::toolkit_version();
  m.attr("architectures") = FASTCLIP_CUDA_ARCHITECTURES;
  m.def("driver_version", &cuda::driver_version);
  m.def("capability", &cuda::capability_of);
  m.attr("most_best") = cuda::kMostBest;
  m.attr("key_alignment") = cuda::kKeyAlignment;

  using cuda::Tuning;
  py::class_<Tuning>(m, "Tuning")
      .def_readwrite("topk_queries", &Tuning::topk_queries)
      .def_readwrite("topk_candidates", &Tuning::topk_candidates)
      .def_readwrite("search_queries", &Tuning::search_queries)
      .def_readwrite("search_pairs", &Tuning::search_pairs)
      .def_readwrite("search_open", &Tuning::search_open)
      .def_readwrite("held_scores", &Tuning::held_scores)
      .def_readwrite("logsumexp_queries", &Tuning::logsumexp_queries)
      .def_readwrite("potential_rows", &Tuning::potential_rows)
      .def_readwrite("cache_queries", &Tuning::cache_queries)
      .def_readwrite("mean_rows", &Tuning::mean_rows)
      .def_readwrite("pixel_scores_at_once", &Tuning::pixel_scores_at_once)
      .def_readwrite("pixel_labels_scores", &Tuning::pixel_labels_scores)
      .def_readwrite("refine_weights", &Tuning::refine_weights);
  m.attr("tuning") = py::cast(&cuda::tuning(), py::return_value_policy::reference);
}
#endif

}  // namespace
}  // namespace fastclip::bindings

// Free-threaded interpreters need not bring the GIL back for it: what calls share is set when the
// module is imported, atomic, under a mutex or of one thread.
PYBIND11_MODULE(_C, m, pybind11::mod_gil_not_used()) {
  using namespace fastclip::bindings;
  Modules modules{m, {}};
#ifdef FASTCLIP_CUDA
  modules.cuda = m.def_submodule("cuda");
  define_cuda_settings(modules.cuda);
#else
  m.attr("without_cuda") = FASTCLIP_WITHOUT_CUDA;
#endif
  define_operations(modules);
  define_plain(m);
  define_settings(m);
  define_peak(m);
}
