// The products of matrix units (amx_tiles.h), by instructions in plain C++: as Intel's manual has
// them, and as strict.
#include <algorithm>
#include <cstring>
#include <random>
#include <stdexcept>
#include <vector>

#include "tests.h"

namespace fastclip::tests {
namespace {

struct Tile {
  int rows = 0, bytes = 0;
  bool written = false;
  uint8_t data[16][64];
};
Tile tiles[8];
bool configured = false;

void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}
Tile& tile(int number, bool read) {
  require(configured && tiles[number].rows > 0, "a tile that is not configured");
  require(!read || tiles[number].written, "a tile that was not written");
  tiles[number].written = true;
  return tiles[number];
}
void configure(const void* layout) {
  const auto* bytes = static_cast<const uint8_t*>(layout);
  require(bytes[0] == 1 && std::all_of(bytes + 1, bytes + 16, [](int x) { return x == 0; }),
          "palette 1");
  for (int t = 0; t < 8; ++t) {
    uint16_t of_row;
    std::memcpy(&of_row, bytes + 16 + 2 * t, 2);
    const int rows = bytes[48 + t];
    require(rows <= 16 && of_row <= 64 && (rows == 0) == (of_row == 0), "the size of a tile");
    tiles[t] = {};
    tiles[t].rows = rows;
    tiles[t].bytes = of_row;
  }
  configured = true;
}
void release() { configured = false; }
void zero(int t) { std::memset(tile(t, false).data, 0, sizeof(Tile::data)); }
void load(int t, const void* from, int64_t stride) {
  Tile& to = tile(t, false);
  for (int r = 0; r < to.rows; ++r) {
    std::memcpy(to.data[r], static_cast<const uint8_t*>(from) + r * stride, to.bytes);
  }
}
void store(int t, void* to, int64_t stride) {
  const Tile& from = tile(t, true);
  for (int r = 0; r < from.rows; ++r) {
    std::memcpy(static_cast<uint8_t*>(to) + r * stride, from.data[r], from.bytes);
  }
}
// sums[m][n] += the four products of signed a[m][k] and unsigned b[k][n], for all k
void multiply(int sums, int left, int right) {
  Tile& c = tile(sums, true);
  const Tile &a = tile(left, true), &b = tile(right, true);
  require(c.rows == a.rows && c.bytes == b.bytes && a.bytes == 4 * b.rows, "sizes that agree");
  for (int m = 0; m < c.rows; ++m) {
    for (int n = 0; n < c.bytes / 4; ++n) {
      int32_t sum;
      std::memcpy(&sum, c.data[m] + 4 * n, 4);
      for (int k = 0; k < a.bytes; ++k) {
        sum += static_cast<int8_t>(a.data[m][k]) * b.data[k / 4][4 * n + k % 4];
      }
      std::memcpy(c.data[m] + 4 * n, &sum, 4);
    }
  }
}

}  // namespace
}  // namespace fastclip::tests

#define _tile_loadconfig fastclip::tests::configure
#define _tile_release fastclip::tests::release
#define _tile_zero fastclip::tests::zero
#define _tile_loadd fastclip::tests::load
#define _tile_stored fastclip::tests::store
#define _tile_dpbsud fastclip::tests::multiply
#include "cpu/isa/amx_tiles.h"

namespace fastclip::tests {

void check_amx_tiles(Run& run) {
  std::minstd_rand random;
  for (int64_t width : {64, 192}) {
    for (int queries = 1; queries <= cpu::AmxTiles::kQueries; ++queries) {
      // No byte to spare, for the sanitizer.
      std::vector<int8_t> codes(queries * width);
      std::vector<uint8_t> panel(kPanel * width);
      for (int8_t& x : codes) x = static_cast<int8_t>(random() % 255 - 127);
      for (uint8_t& x : panel) x = static_cast<uint8_t>(random());
      std::vector<int32_t> dots(queries * kPanel);
      cpu::AmxTiles matrix_units;
      matrix_units.configure(queries);
      matrix_units.multiply(codes.data(), panel.data(), width,
                            reinterpret_cast<int32_t(*)[kPanel]>(dots.data()));
      matrix_units.release();
      for (int m = 0; m < queries; ++m) {
        for (int64_t j = 0; j < kPanel; ++j) {
          int32_t sum = 0;
          for (int64_t i = 0; i < width; ++i) {
            sum += codes[m * width + i] * panel[(i / 4 * kPanel + j) * 4 + i % 4];
          }
          run.expect(dots[m * kPanel + j] == sum, "products of matrix units");
        }
      }
    }
  }
}

}  // namespace fastclip::tests
