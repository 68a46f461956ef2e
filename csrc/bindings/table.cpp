// The table of all operations: what each takes, and what it calls on the CPU and on CUDA devices.
//
// fastclip._C.NAME(*arguments, threads) calls the first; searches take another flag, always_screen.
// In builds with CUDA there is also fastclip._C.cuda.NAME(*arguments, at_once, memory, stream) with
// fastclip._C.cuda.NAME_room(*arguments, most), or fastclip._C.cuda.NAME(*arguments, stream) where
// there is no room to make.
#include "bindings/table.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "bindings/arguments.h"
#include "bindings/gil.h"
#include "fastclip/ops/cache_grid.h"
#include "fastclip/ops/cache_logits.h"
#include "fastclip/ops/count_ahead.h"
#include "fastclip/ops/find_nonfinite.h"
#include "fastclip/ops/gaussian_potential.h"
#include "fastclip/ops/group_beats.h"
#include "fastclip/ops/group_max.h"
#include "fastclip/ops/group_mean.h"
#include "fastclip/ops/logsumexp.h"
#include "fastclip/ops/pack.h"
#include "fastclip/ops/pair_scores.h"
#include "fastclip/ops/pairs_above.h"
#include "fastclip/ops/pixel_labels.h"
#include "fastclip/ops/pixel_scores.h"
#include "fastclip/ops/refine_masks.h"
#include "fastclip/ops/similarity.h"
#include "fastclip/ops/topk.h"

#ifdef FASTCLIP_CUDA
#include "cuda/arch/versions.h"
#define FASTCLIP_ON_CUDA(...) .cuda(__VA_ARGS__)
#else
#define FASTCLIP_ON_CUDA(...)
#endif

using Pairs = std::vector<fastclip::ScoredPair>;
PYBIND11_MAKE_OPAQUE(Pairs)

namespace fastclip::bindings {
namespace {

using Where = Arguments::Where;

// A row of the table.
template <class Call>
class Row {
 public:
  Row(Modules& modules, const char* name, const char* arguments)
      : modules_(modules), signature_(std::make_shared<Signature>(name, arguments)) {}

  template <class Result>
  Row& cpu(Result (*function)(const Call&, int, cpu::Interrupt&)) {
    define(modules_.cpu, "", [=](const Signature& signature, const py::args& values) {
      Arguments arguments(signature, values, Where::kCpu);
      const auto call = arguments.call<Call>();
      const int threads = arguments.extra<int>();
      return without_gil(
          [&](cpu::Interrupt& interrupt) { return function(call, threads, interrupt); });
    });
    return *this;
  }

  template <class Result>
  Row& cpu(Result (*search)(const Call&, cpu::Screening, int, cpu::Interrupt&)) {
    define(modules_.cpu, "", [=](const Signature& signature, const py::args& values) {
      Arguments arguments(signature, values, Where::kCpu);
      const auto call = arguments.call<Call>();
      const int threads = arguments.extra<int>();
      const auto screening = cpu::Screening{arguments.extra<bool>()};
      return without_gil(
          [&](cpu::Interrupt& interrupt) { return search(call, screening, threads, interrupt); });
    });
    return *this;
  }

#ifdef FASTCLIP_CUDA
  Row& cuda(void (*kernel)(const Call&, cuda::Stream)) {
    define(modules_.cuda, "", [=](const Signature& signature, const py::args& values) {
      Arguments arguments(signature, values, device());
      const auto call = arguments.call<Call>();
      const cuda::Stream stream = stream_of(arguments);
      ReleasedGil released;
      kernel(call, stream);
    });
    return *this;
  }

  Row& cuda(cuda::Room (*room)(const Call&, int64_t),
            void (*kernel)(const Call&, int64_t, void*, cuda::Stream)) {
    define(modules_.cuda, "_room", [=](const Signature& signature, const py::args& values) {
      Arguments arguments(signature, values, Where::kAnywhere);
      const auto call = arguments.call<Call>();
      const cuda::Room needed = room(call, arguments.extra<int64_t>());
      return py::make_tuple(needed.bytes, needed.at_once);
    });
    define(modules_.cuda, "", [=](const Signature& signature, const py::args& values) {
      Arguments arguments(signature, values, device());
      const auto call = arguments.call<Call>();
      const auto at_once = arguments.extra<int64_t>();
      const auto memory = arguments.memory();
      const cuda::Stream stream = stream_of(arguments);
      if (memory.count() < room(call, at_once).bytes) arguments.fail("memory: there is not enough");
      // Returns as soon as the work is in the stream, but that may have to wait for room.
      ReleasedGil released;
      kernel(call, at_once, memory.data, stream);
    });
    return *this;
  }
#endif

 private:
  template <class Function>
  void define(py::module_& module, const char* suffix, Function function) {
    const auto name = signature_->operation() + suffix;
    module.def(name.c_str(), [=, signature = signature_](const py::args& values) {
      FloatEnvironment environment;  // numbers on their way to a kernel keep denormals
      return function(*signature, values);
    });
  }

#ifdef FASTCLIP_CUDA
  static Where device() { return cuda::emulated() ? Where::kCpu : Where::kCuda; }

  static cuda::Stream stream_of(Arguments& arguments) {
    return reinterpret_cast<cuda::Stream>(arguments.extra<uintptr_t>());
  }
#endif

  Modules& modules_;
  std::shared_ptr<Signature> signature_;
};

// Row starts, keys and scores of a CSR matrix.
struct WritePairsCall {
  Array<int64_t> starts;
  Array<int64_t> keys;
  Array<float> scores;
};

void write(const Pairs& pairs, const WritePairsCall& to) {
  std::fill_n(to.starts.data, to.starts.count(), 0);
  for (size_t p = 0; p < pairs.size(); ++p) {
    ++to.starts[pairs[p].query + 1];
    to.keys[static_cast<int64_t>(p)] = pairs[p].key;
    to.scores[static_cast<int64_t>(p)] = pairs[p].score;
  }
  std::partial_sum(to.starts.data, to.starts.data + to.starts.count(), to.starts.data);
}

void define_pairs(py::module_& m) {
  static const Signature signature("Pairs.write", "starts[R] keys[P] scores[P]");
  py::class_<Pairs>(m, "Pairs")
      .def("__len__", [](const Pairs& pairs) { return pairs.size(); })
      .def("write", [](const Pairs& pairs, const py::args& values) {
        Arguments arguments(signature, values, Where::kCpu);
        const auto to = arguments.call<WritePairsCall>();
        const auto count = static_cast<int64_t>(pairs.size());
        if (to.keys.count() != count) arguments.fail("keys: there are " + std::to_string(count));
        if (count > 0 && pairs.back().query + 1 >= to.starts.count()) {
          arguments.fail("starts: there are more queries");
        }
        write(pairs, to);
      });
}

}  // namespace

void define_operations(Modules& m) {
  define_pairs(m.cpu);

  Row<FindNonfiniteCall>(m, "find_nonfinite", "rows[N,d] row[]?")
      .cpu(cpu::find_nonfinite) FASTCLIP_ON_CUDA(cuda::find_nonfinite);

  Row<PackCall>(m, "pack", "keys[V,d] center[d] codes[...] bounds[3,P]")
      .cpu(cpu::pack) FASTCLIP_ON_CUDA(cuda::pack);

  Row<SimilarityCall>(m, "similarity", "queries[N,d] keys[V,d] out[N,V]")
      .cpu(cpu::similarity) FASTCLIP_ON_CUDA(cuda::similarity);

  Row<PairScoresCall>(m, "pair_scores", "queries[N,d] keys[V,d] indices[N,p] out[N,p]")
      .cpu(cpu::pair_scores) FASTCLIP_ON_CUDA(cuda::pair_scores);

  Row<TopKCall>(m, "topk",
                "queries[N,d] keys[V,d] screen[V,d] allowed[V]? values[N,k] indices[N,k] "
                "survivors[]")
      .cpu(cpu::topk) FASTCLIP_ON_CUDA(cuda::topk_room, cuda::topk);

  Row<CountAheadCall>(m, "count_ahead",
                      "queries[N,d] keys[V,d] screen[V,d] allowed[V]? scores[N] ties[N] "
                      "per_query[N]? per_key[V]? survivors[]")
      .cpu(cpu::count_ahead) FASTCLIP_ON_CUDA(cuda::count_ahead_room, cuda::count_ahead);

  Row<GroupBeatsCall>(
      m, "group_beats",
      "queries[N,d] keys[V,d] screen[V,d] scores[N] ties[N] groups[V] bits[N,words] "
      "survivors[]")
      .cpu(cpu::group_beats) FASTCLIP_ON_CUDA(cuda::group_beats_room, cuda::group_beats);

  Row<GroupMaxCall>(m, "group_max",
                    "queries[N,d] keys[V,d] screen[V,d] groups[V] values[N,G] indices[N,G] "
                    "survivors[]")
      .cpu(cpu::group_max) FASTCLIP_ON_CUDA(cuda::group_max_room, cuda::group_max);

  Row<PairsAboveCall>(m, "pairs_above", "queries[N,d] keys[V,d] screen[V,d] threshold later_only")
      .cpu(cpu::pairs_above);
  Row<MaybeAboveCall>(m, "maybe_above",
                      "queries[N,d] keys[V,d] screen[V,d] first_key last_key thresholds[N] "
                      "later_only shift pairs[room,2] count[]")
      FASTCLIP_ON_CUDA(cuda::maybe_above_room, cuda::maybe_above);
  Row<ListScoresCall>(m, "list_scores", "queries[N,d] keys[V,d] pairs[P,2] scores[P]")
      FASTCLIP_ON_CUDA(cuda::list_scores);

  Row<GroupSumsCall>(m, "group_sums", "keys[V,d] groups[V] sums[G,d]").cpu(cpu::group_sums);
  Row<RoundMeansCall>(m, "round_means", "sums[G,d] counts[G]? out[G,d]").cpu(cpu::round_means);
  Row<GroupMeansCall>(m, "group_means", "keys[V,d] order[V] starts[G+1] means[G,d]")
      FASTCLIP_ON_CUDA(cuda::group_means);

  Row<PixelScoresCall>(m, "pixel_scores",
                       "pixels[B*area,d] area tags[T,d] values[B,T] locations[B,T]")
      .cpu(cpu::pixel_scores) FASTCLIP_ON_CUDA(cuda::pixel_scores_room, cuda::pixel_scores);
  Row<PixelLabelsCall>(m, "pixel_labels",
                       "pixels[B*h*w,d] h w tags[T,d] background values[B,k,H,W] indices[B,k,H,W] "
                       "survivors[B] overflow[]?")
      .cpu(cpu::pixel_labels) FASTCLIP_ON_CUDA(cuda::pixel_labels_room, cuda::pixel_labels);
  Row<RefineMasksCall>(m, "refine_masks",
                       "images[B,C,H,W] masks[B,T,H,W] low[B,T]? high[B,T]? iterations dilations "
                       "out[B,T,H,W]")
      .cpu(cpu::refine_masks) FASTCLIP_ON_CUDA(cuda::refine_masks_room, cuda::refine_masks);

  Row<LogSumExpCall>(m, "logsumexp", "queries[N,d] keys[V,d] scale check_keys out[N]")
      .cpu(cpu::logsumexp) FASTCLIP_ON_CUDA(cuda::logsumexp_room, cuda::logsumexp);
  Row<LogSumExpAddCall>(m, "logsumexp_add",
                        "queries[N,d] keys[V,d] scale begin num_keys max[P,N] sum[P,N]")
      .cpu(cpu::logsumexp_add);
  Row<LogSumExpMergeCall>(m, "logsumexp_merge",
                          "max[P,N] sum[P,N] other_max[P,N] other_sum[P,N] scale")
      .cpu(cpu::logsumexp_merge);
  Row<LogSumExpFinishCall>(m, "logsumexp_finish", "max[P,N] sum[P,N] scale out[N]")
      .cpu(cpu::logsumexp_finish);

  Row<GaussianPotentialCall>(m, "gaussian_potential", "x[N,d] y[M,d] symmetric t centre[d]? out[]")
      .cpu(cpu::gaussian_potential)
          FASTCLIP_ON_CUDA(cuda::gaussian_potential_room, cuda::gaussian_potential);

  Row<CacheLogitsCall>(m, "cache_logits",
                       "queries[N,d] keys[V,d] values[V,C] beta out[N,C]? totals[N,C]?")
      .cpu(cpu::cache_logits) FASTCLIP_ON_CUDA(cuda::cache_logits_room, cuda::cache_logits);
  Row<CacheGridCall>(m, "cache_grid",
                     "affinities[N,M] zero_shot[N,C] labels[N] support_labels[M] first_beta "
                     "beta_step alphas[A] right[B,A]")
      .cpu(cpu::cache_grid);
}

}  // namespace fastclip::bindings
