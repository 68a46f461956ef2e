// The private module fastclip._C: takes addresses and shapes, releases the GIL, calls the kernels.
// Python has checked the arguments and owns the memory.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <tuple>
#include <vector>

#include "bindings/gil.h"
#include "bindings/tensors.h"
#include "cpu/isa/isa.h"
#include "cpu/ops.h"
#include "fastclip/exact_score.h"
#include "fastclip/matrix.h"
#include "fastclip/screen.h"

namespace py = pybind11;
using fastclip::DType;
using fastclip::FloatEnvironment;
using fastclip::Matrix;
using fastclip::MutableMatrix;
using fastclip::ScreenKeys;
using fastclip::bindings::ReleasedGil;
using fastclip::bindings::Tensors;
using fastclip::cpu::Interrupt;
using Pairs = std::vector<fastclip::cpu::ScoredPair>;

PYBIND11_MAKE_OPAQUE(Pairs)

#ifdef FASTCLIP_CUDA
namespace fastclip::bindings {
void bind_cuda(py::module_& m);
}
#endif

namespace {

// Runs `work` without the GIL and with denormals kept; Ctrl-C ends it early and raises
// KeyboardInterrupt.
template <class Work>
auto without_gil(Work work) {
  auto result = [&] {
    FloatEnvironment environment;
    ReleasedGil released;
    Interrupt interrupt([&] { return released.asked_to_stop(); });
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
      }))
      .def_readonly("rows", &Matrix::rows);

  py::class_<Tensors>(m, "Tensors")
      .def(py::init<py::type, py::type>())
      // None where plain() finds none, where codes of packed keys are worth a look, or keys that
      // are not packed may be worth packing.
      .def("topk",
           [](const Tensors& tensors, py::handle queries, py::handle keys, bool packed, int64_t k,
              int64_t pack_from_queries, int64_t pack_from_keys, int threads) -> py::object {
             const auto q = tensors.rows(queries);
             const auto x = q ? tensors.rows(keys) : std::nullopt;
             if (!x || q->cols != x->cols || k < 1 || k > x->rows) return py::none();
             if (packed ? fastclip::cpu::worth_codes(q->rows, x->rows, k)
                        : q->rows >= pack_from_queries && x->rows >= pack_from_keys) {
               return py::none();
             }
             const auto values = tensors.empty<float>(q->rows, k);
             const auto indices = tensors.empty<int64_t>(q->rows, k);
             const int64_t scored = without_gil([&](Interrupt& interrupt) {
               return fastclip::cpu::topk(*q, *x, nullptr, k, values.second, indices.second,
                                          threads, interrupt);
             });
             return py::make_tuple(values.first, indices.first, scored);
           })
      // Whether rows() finds some.
      .def("are_plain",
           [](const Tensors& tensors, py::handle rows) { return tensors.rows(rows).has_value(); })
      .def("plain", [](const Tensors& tensors, py::handle queries, py::handle keys) -> py::object {
        const auto q = tensors.rows(queries);
        const auto k = q ? tensors.rows(keys) : std::nullopt;
        if (!k || q->cols != k->cols) return py::none();
        return py::make_tuple(*q, *k);
      });

  m.def("dlpack_is_writable", &fastclip::bindings::is_writable);

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

  py::class_<ScreenKeys>(m, "ScreenKeys")
      .def(py::init([](uintptr_t codes, uintptr_t bounds, uintptr_t center, int64_t keys,
                       int64_t cols) {
        const int64_t padded = (keys + fastclip::kPanel - 1) / fastclip::kPanel * fastclip::kPanel;
        const auto* rows = reinterpret_cast<const float*>(bounds);
        return ScreenKeys{reinterpret_cast<const uint8_t*>(codes),
                          rows,
                          rows + padded,
                          rows + 2 * padded,
                          reinterpret_cast<const float*>(center),
                          keys,
                          cols,
                          fastclip::code_width(cols)};
      }));

  m.def("code_width", &fastclip::code_width);
  m.attr("panel") = fastclip::kPanel;

  m.def("pack", [](const Matrix& keys, uintptr_t codes, uintptr_t bounds, uintptr_t center,
                   int threads) {
    const int64_t padded = (keys.rows + fastclip::kPanel - 1) / fastclip::kPanel * fastclip::kPanel;
    auto* rows = reinterpret_cast<float*>(bounds);
    return without_gil([&](Interrupt& interrupt) {
      return fastclip::cpu::pack(keys, fastclip::code_width(keys.cols),
                                 reinterpret_cast<float*>(center),
                                 reinterpret_cast<uint8_t*>(codes), rows, rows + padded,
                                 rows + 2 * padded, threads, interrupt);
    });
  });

  m.def("topk", [](const Matrix& queries, const Matrix& keys, const ScreenKeys* screen, int64_t k,
                   uintptr_t values, uintptr_t indices, int threads) {
    return without_gil([&](Interrupt& interrupt) {
      return fastclip::cpu::topk(queries, keys, screen, k, reinterpret_cast<float*>(values),
                                 reinterpret_cast<int64_t*>(indices), threads, interrupt);
    });
  });

  m.def("count_ahead",
        [](const Matrix& queries, const Matrix& keys, const ScreenKeys* screen, uintptr_t scores,
           uintptr_t ties, uintptr_t per_query, uintptr_t per_key, int threads) {
          return without_gil([&](Interrupt& interrupt) {
            return fastclip::cpu::count_ahead(
                queries, keys, screen, reinterpret_cast<const float*>(scores),
                reinterpret_cast<const int64_t*>(ties), reinterpret_cast<int64_t*>(per_query),
                reinterpret_cast<int64_t*>(per_key), threads, interrupt);
          });
        });

  m.def("pair_scores", [](const Matrix& queries, const Matrix& keys, uintptr_t indices,
                          int64_t per_query, uintptr_t out, int threads) {
    without_gil([&](Interrupt& interrupt) {
      fastclip::cpu::pair_scores(queries, keys, reinterpret_cast<const int64_t*>(indices),
                                 per_query, reinterpret_cast<float*>(out), threads, interrupt);
      return 0;
    });
  });

  py::class_<Pairs>(m, "Pairs")
      .def("__len__", [](const Pairs& pairs) { return pairs.size(); })
      .def("write",
           [](const Pairs& pairs, int64_t rows, uintptr_t crow, uintptr_t col, uintptr_t values) {
             auto* ends = reinterpret_cast<int64_t*>(crow);
             std::fill(ends, ends + rows + 1, 0);
             for (size_t p = 0; p < pairs.size(); ++p) {
               ++ends[pairs[p].query + 1];
               reinterpret_cast<int64_t*>(col)[p] = pairs[p].key;
               reinterpret_cast<float*>(values)[p] = pairs[p].score;
             }
             std::partial_sum(ends, ends + rows + 1, ends);
           });

  m.def("pairs_above", [](const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                          double threshold, bool later_only, int threads) {
    return without_gil([&](Interrupt& interrupt) {
      return fastclip::cpu::pairs_above(queries, keys, screen, static_cast<float>(threshold),
                                        later_only, threads, interrupt);
    });
  });

  m.def("group_beats",
        [](const Matrix& queries, const Matrix& keys, const ScreenKeys* screen, uintptr_t scores,
           uintptr_t ties, uintptr_t groups, int64_t words, uintptr_t bits, int threads) {
          return without_gil([&](Interrupt& interrupt) {
            return fastclip::cpu::group_beats(
                queries, keys, screen, reinterpret_cast<const float*>(scores),
                reinterpret_cast<const int64_t*>(ties), reinterpret_cast<const int64_t*>(groups),
                words, reinterpret_cast<uint64_t*>(bits), threads, interrupt);
          });
        });

  m.def("group_max", [](const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                        uintptr_t groups, int64_t num_groups, uintptr_t values, uintptr_t indices,
                        int threads) {
    return without_gil([&](Interrupt& interrupt) {
      return fastclip::cpu::group_max(queries, keys, screen,
                                      reinterpret_cast<const int64_t*>(groups), num_groups,
                                      reinterpret_cast<float*>(values),
                                      reinterpret_cast<int64_t*>(indices), threads, interrupt);
    });
  });

  m.def("pixel_scores", [](const Matrix& pixels, int64_t images, const Matrix& tags,
                           uintptr_t values, uintptr_t locations, int threads) {
    without_gil([&](Interrupt& interrupt) {
      fastclip::cpu::pixel_scores(pixels, images, tags, reinterpret_cast<float*>(values),
                                  reinterpret_cast<int64_t*>(locations), threads, interrupt);
      return 0;
    });
  });

  m.def("pixel_labels", [](const Matrix& pixels, int64_t images, const Matrix& tags,
                           std::array<int64_t, 5> shape, double background, uintptr_t values,
                           uintptr_t indices, uintptr_t survivors, int threads) {
    without_gil([&](Interrupt& interrupt) {
      fastclip::cpu::pixel_labels(pixels, images, tags,
                                  {shape[0], shape[1], shape[2], shape[3], shape[4]},
                                  static_cast<float>(background), reinterpret_cast<float*>(values),
                                  reinterpret_cast<int64_t*>(indices),
                                  reinterpret_cast<int64_t*>(survivors), threads, interrupt);
      return 0;
    });
  });

  m.def("refine_masks", [](uintptr_t images, uintptr_t masks, std::array<int64_t, 5> shape,
                           int64_t iterations, const std::vector<int64_t>& dilations, uintptr_t out,
                           int threads) {
    without_gil([&](Interrupt& interrupt) {
      fastclip::cpu::refine_masks(reinterpret_cast<const float*>(images),
                                  reinterpret_cast<const float*>(masks),
                                  {shape[0], shape[1], shape[2], shape[3], shape[4]}, iterations,
                                  dilations, reinterpret_cast<float*>(out), threads, interrupt);
      return 0;
    });
  });

  m.def("logsumexp", [](const Matrix& queries, const Matrix& keys, bool check_keys, double scale,
                        uintptr_t out, int threads) {
    return without_gil([&](Interrupt& interrupt) {
      return fastclip::cpu::logsumexp(queries, keys, check_keys, scale,
                                      reinterpret_cast<float*>(out), threads, interrupt);
    });
  });

  m.def("value_blocks", [](int64_t num_keys, int64_t cols) {
    const auto blocks = fastclip::cpu::value_blocks(num_keys, cols);
    return std::array<int64_t, 3>{blocks.block, blocks.part, blocks.parts};
  });

  m.def("logsumexp_add", [](const Matrix& queries, const Matrix& keys, double scale, int64_t begin,
                            int64_t num_keys, uintptr_t max, uintptr_t sum, int threads) {
    without_gil([&](Interrupt& interrupt) {
      fastclip::cpu::logsumexp_add(queries, keys, scale, begin, num_keys,
                                   reinterpret_cast<float*>(max), reinterpret_cast<double*>(sum),
                                   threads, interrupt);
      return 0;
    });
  });

  m.def("logsumexp_merge", [](uintptr_t max, uintptr_t sum, uintptr_t other_max,
                              uintptr_t other_sum, int64_t count, double scale) {
    FloatEnvironment environment;
    fastclip::cpu::logsumexp_merge(reinterpret_cast<float*>(max), reinterpret_cast<double*>(sum),
                                   reinterpret_cast<const float*>(other_max),
                                   reinterpret_cast<const double*>(other_sum), count, scale);
  });

  m.def("logsumexp_finish",
        [](uintptr_t max, uintptr_t sum, int64_t parts, int64_t rows, double scale, uintptr_t out) {
          FloatEnvironment environment;
          fastclip::cpu::logsumexp_finish(reinterpret_cast<const float*>(max),
                                          reinterpret_cast<const double*>(sum), parts, rows, scale,
                                          reinterpret_cast<float*>(out));
        });

  m.def("group_sums", [](const Matrix& keys, uintptr_t groups, uintptr_t sums, int threads) {
    without_gil([&](Interrupt& interrupt) {
      fastclip::cpu::group_sums(keys, reinterpret_cast<const int64_t*>(groups),
                                reinterpret_cast<double*>(sums), threads, interrupt);
      return 0;
    });
  });

  m.def("round_means", [](uintptr_t sums, uintptr_t counts, int64_t rows, int64_t cols,
                          uintptr_t out, int threads) {
    without_gil([&](Interrupt& interrupt) {
      fastclip::cpu::round_means(reinterpret_cast<const double*>(sums),
                                 reinterpret_cast<const int64_t*>(counts), rows, cols,
                                 reinterpret_cast<float*>(out), threads, interrupt);
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
                           double beta, uintptr_t out, uintptr_t totals, int threads) {
    without_gil([&](Interrupt& interrupt) {
      fastclip::cpu::cache_logits(queries, keys, values, beta, reinterpret_cast<float*>(out),
                                  reinterpret_cast<double*>(totals), threads, interrupt);
      return 0;
    });
  });

  m.def("cache_grid", [](std::array<int64_t, 3> shape, uintptr_t affinities, uintptr_t zero_shot,
                         uintptr_t labels, uintptr_t support_labels,
                         std::tuple<double, double, int64_t> betas, uintptr_t alphas,
                         int64_t num_alphas, uintptr_t right, int threads) {
    without_gil([&](Interrupt& interrupt) {
      const auto& [first_beta, beta_step, num_betas] = betas;
      fastclip::cpu::cache_grid(
          {shape[0], shape[1], shape[2], reinterpret_cast<const double*>(affinities),
           reinterpret_cast<const double*>(zero_shot), reinterpret_cast<const int64_t*>(labels),
           reinterpret_cast<const int64_t*>(support_labels), first_beta, beta_step, num_betas,
           reinterpret_cast<const double*>(alphas), num_alphas},
          reinterpret_cast<int64_t*>(right), threads, interrupt);
      return 0;
    });
  });

  m.def("park_other_threads", &ReleasedGil::park_others);

  // float(x), where the conversion from float32 must keep denormals.
  m.def("to_float", [](py::handle x) {
    FloatEnvironment environment;
    const double number = PyFloat_AsDouble(x.ptr());
    if (number == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    return number;
  });

  m.def("worth_codes", &fastclip::cpu::worth_codes);
  m.def("always_screen", &fastclip::cpu::always_screen);
  m.def("has_screen", [] { return fastclip::cpu::kernels().query_levels > 0; });
  m.def("available_isas", &fastclip::cpu::available_isas);
  m.def("isa", [] { return std::string(fastclip::cpu::kernels().name); });
  m.def("select_isa", &fastclip::cpu::select_isa);
  m.attr("compiler") = FASTCLIP_COMPILER;

#ifdef FASTCLIP_CUDA
  py::module_ cuda = m.def_submodule("cuda");
  fastclip::bindings::bind_cuda(cuda);
#endif
}
