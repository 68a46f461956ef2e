// Lists of open pairs that have room for all, for some or for none.
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "cuda/engine/pair_list.cuh"
#include "cuda/engine/plan.h"
#include "expect.h"

using namespace fastclip;
using namespace fastclip::cuda;

namespace {

constexpr int kCols = 3;

// Open pairs: those with a product of such a remainder.
struct Open {
  int64_t of, is;
  FASTCLIP_HD bool operator()(int64_t query, int64_t key) const {
    return (query * 31 + key * 17) % of == is;
  }
};

// Every warp takes some strips, as an epilogue sees them.
__global__ void append_kernel(PairList list, Open open) {
  const int64_t strips_of_keys = list.strips_of_keys();
  const int64_t strips = ceil_div<int64_t>(list.queries(), kStripQueries) * strips_of_keys;
  const int64_t warps = gridDim.x * (blockDim.x / kWarp);
  Epilogue::Memory none;
  PairList::Places places(none);
  for (int64_t strip = global_thread() / kWarp; strip < strips; strip += warps) {
    const Strip at{strip / strips_of_keys * kStripQueries,
                   list.first_key() + strip % strips_of_keys * kStripKeys};
    uint32_t bits = 0;
    for (int bit = 0; bit < 32; ++bit) {
      const int64_t query = query_of_bit(at, bit), key = key_of_bit(at, bit);
      if (query < list.queries() && key < list.last_key() && open(query, key)) bits |= 1u << bit;
    }
    list.append(bits, at, places);
  }
  list.leave(places);
}

// Counts how often a pair was scored, and checks the score.
struct Count {
  int* counts;
  int64_t keys;
  __device__ void operator()(int64_t query, int64_t key, float score) const {
    atomicAdd(counts + query * keys + key, 1);
    expect(score == static_cast<float>(query + 2 * key), "score of a pair");
  }
};

// queries [i, 1, 0] and keys [1, 2 j, 5].
std::vector<float> rows(int64_t count, bool queries) {
  std::vector<float> numbers;
  for (int64_t i = 0; i < count; ++i) {
    const auto x = static_cast<float>(i);
    numbers.insert(numbers.end(),
                   {queries ? x : 1.0f, queries ? 1.0f : 2 * x, queries ? 0.0f : 5.0f});
  }
  return numbers;
}

Matrix matrix(const std::vector<float>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), DType::kFloat32,
          static_cast<int64_t>(numbers.size()) / kCols, kCols, kCols};
}

// Memory without a byte to spare, for the sanitizer, and with garbage in it.
struct Memory {
  explicit Memory(int64_t bytes) : memory(static_cast<char*>(std::malloc(bytes))) {
    std::memset(memory.get(), 0xee, bytes);
  }
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  std::unique_ptr<char, Free> memory;
};

// Screens keys in ranges of `range` with a list for `capacity` pairs.
void test_overflow(int64_t queries, int64_t keys, int64_t range, int64_t capacity, Open open) {
  Workspace counting;
  PairList(counting, capacity, PairList::strips(queries, range));
  const Memory memory(counting.bytes());
  Workspace workspace(memory.memory.get());
  PairList list(workspace, capacity, PairList::strips(queries, range));

  const std::vector<float> query_rows = rows(queries, true), key_rows = rows(keys, false);
  std::vector<int> counts(queries * keys);
  int64_t scored = 0;
  for (int64_t first = 0; first < keys; first += range) {
    list.begin(queries, first, std::min(first + range, keys), nullptr);
    const int64_t strips = PairList::strips(queries, list.last_key() - first);
    launch(append_kernel, static_cast<unsigned>(ceil_div<int64_t>(strips, 12)), 4 * kWarp, 0,
           nullptr, list, open);
    const int64_t before = scored;
    rescore(list, matrix(query_rows), matrix(key_rows), Count{counts.data(), keys}, &scored,
            nullptr);
    expect(list.overflowed() || scored - before <= capacity, "no more than there is room for");
  }
  int64_t total = 0;
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < keys; ++j) {
      const int count = counts[i * keys + j];
      expect(count <= 1, "no pair is scored twice");
      expect(count == 1 || !open(i, j), "every open pair is scored");
      total += count;
    }
  }
  expect(total == scored, "how many pairs were scored");
}

// All pairs, of more keys than the list has marks for.
void test_all(int64_t queries, int64_t keys) {
  const Memory count(sizeof(unsigned));
  const PairList list(nullptr, 0, reinterpret_cast<unsigned*>(count.memory.get()));
  const std::vector<float> query_rows = rows(queries, true), key_rows = rows(keys, false);
  std::vector<int> counts(queries * keys);
  int64_t scored = 0;
  rescore_all(list, matrix(query_rows), matrix(key_rows), Count{counts.data(), keys}, &scored,
              nullptr);
  for (int times : counts) expect(times == 1, "each pair once");
  expect(scored == queries * keys, "how many there are");
}

// A list whose owner looks at the count: pairs without room are left out, and nothing is written
// behind its end.
void test_unmarked(int64_t capacity) {
  const int64_t queries = 40, keys = 300;
  const Open open{7, 3};
  const Memory memory(capacity * static_cast<int64_t>(sizeof(OpenPair)));
  auto* pairs = reinterpret_cast<OpenPair*>(memory.memory.get());
  unsigned count = 0;
  PairList list(pairs, capacity, &count);
  list.cover(queries, 0, keys);
  launch(append_kernel, static_cast<unsigned>(PairList::strips(queries, keys)), kWarp, 0, nullptr,
         list, open);
  int64_t expected = 0;
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < keys; ++j) expected += open(i, j);
  }
  expect(count == expected, "the count is that of all pairs");
  expect(list.overflowed() == (expected > capacity), "whether there was room");
  if (list.overflowed()) return;
  std::map<std::pair<int, int>, int> seen;
  for (int64_t p = 0; p < expected; ++p) ++seen[{pairs[p].query, pairs[p].key}];
  expect(static_cast<int64_t>(seen.size()) == expected, "each pair once");
  for (const auto& [pair, times] : seen) expect(open(pair.first, pair.second), "an open pair");
}

}  // namespace

int main() {
  for (int64_t capacity : {1, 40, 100'000}) {
    test_overflow(9, 700, 256, capacity, {2, 0});
    test_overflow(130, 300, 512, capacity, {97, 5});
    test_overflow(1, 300, 256, capacity, {5000, 1});
  }
  test_all(3, 2500);
  test_all(17, 100);
  for (int64_t capacity : {1, 1000, 100'000}) test_unmarked(capacity);
  std::puts("passed");
}
