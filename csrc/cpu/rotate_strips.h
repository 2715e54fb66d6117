// The strips of a tile, located once for all channel groups of a unit.
#pragma once

#include "rotate_geometry.h"

namespace {

// The first group locates every strip; where a table keeps them, the groups after it read them. All groups
// must ask for the same strips in the same order. A single group needs no table: its strip stays in the
// first-level cache.
template <class T>
class Strips {
 public:
  Strips(const Locator<T>& source, Strip<T>* memory) : locator(source), table(memory) {}

  void begin_group() {
    known = table != nullptr && used > 0;
    used = 0;
  }

  template <bool kTaps, bool kSlopes>
  const Strip<T>& next(int64_t row, int64_t column, int count) {
    Strip<T>& strip = table != nullptr ? table[used] : single;
    ++used;
    if (!known) locator.template fill<kTaps, kSlopes>(strip, row, column, count);
    return strip;
  }

 private:
  const Locator<T>& locator;
  Strip<T>* table;
  int64_t used = 0;
  bool known = false;
  Strip<T> single;
};

// Four neighbouring pixels of a strip of `count`. The last block of a strip begins early enough to be whole
// and repeats some pixels of the one before it; [begin, end) are those that are its own. A strip of less than
// four pixels is one block that is not whole.
struct Piece {
  int at, begin, end;
  bool own() const { return begin == 0 && end == 4; }
};

inline Piece piece_of(int block, int count) {
  const int i = block * 4;
  const int at = i + 4 > count && count >= 4 ? count - 4 : i;
  return Piece{at, i - at, count - at < 4 ? count - at : 4};
}

// Consecutive pixels add to the same scratch pixels, and waiting for each other's stores would cost
// more than the arithmetic: blocks of four are taken from four places of a strip in turn.
inline int spread_block(int index, int blocks) {
  const int quarter = blocks / 4;
  if (index >= quarter * 4) return index;
  return index % 4 * quarter + index / 4;
}

}  // namespace
