// Order statistics of rows, without sorting them: values are counted by intervals of equal length, and only the
// intervals that hold a wanted one are looked into.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

namespace {

constexpr int64_t kIntervals = 1024;
constexpr uint8_t kNobody = 255;

struct Rows {
  int64_t rows, length, wanted;
  const double* values;  // [row, length]
  const int64_t* ranks;  // [wanted]: ascending, from zero
  double* found;         // [row, wanted]
};

class Selection {
 public:
  explicit Selection(const Rows& given) : p(given), interval(given.length), lists(given.wanted) {}

  void run(const double* values, double* found) {
    double low = values[0], high = values[0];
    bool known = true;
    for (int64_t i = 0; i < p.length; ++i) {
      low = values[i] < low ? values[i] : low;
      high = values[i] > high ? values[i] : high;
      known &= values[i] == values[i];
    }
    const double per_unit = kIntervals / (high - low);
    if (!known) {
      std::fill_n(found, p.wanted, std::numeric_limits<double>::quiet_NaN());
    } else if (std::isfinite(per_unit) && per_unit > 0) {
      select(values, found, low, per_unit);
    } else {
      std::vector<double> sorted(values, values + p.length);
      std::sort(sorted.begin(), sorted.end());
      for (int64_t k = 0; k < p.wanted; ++k) found[k] = sorted[p.ranks[k]];
    }
  }

 private:
  void select(const double* values, double* found, double low, double per_unit) {
    int64_t counts[kIntervals] = {};
    for (int64_t i = 0; i < p.length; ++i) {
      // In the order of the values, whatever rounding does.
      interval[i] = uint16_t(std::min(int64_t((values[i] - low) * per_unit), kIntervals - 1));
      ++counts[interval[i]];
    }
    uint8_t list_of[kIntervals];
    std::memset(list_of, kNobody, sizeof(list_of));
    int64_t before = 0, first[256];
    int lists_used = 0;
    for (int64_t b = 0, k = 0; k < p.wanted; before += counts[b++]) {
      if (p.ranks[k] >= before + counts[b]) continue;
      first[lists_used] = before;
      lists[lists_used].clear();
      list_of[b] = uint8_t(lists_used++);
      while (k < p.wanted && p.ranks[k] < before + counts[b]) ++k;
    }
    for (int64_t i = 0; i < p.length; ++i) {
      if (list_of[interval[i]] != kNobody) lists[list_of[interval[i]]].push_back(values[i]);
    }
    for (int list = 0; list < lists_used; ++list) std::sort(lists[list].begin(), lists[list].end());
    for (int64_t k = 0, list = 0; k < p.wanted; ++k) {
      while (p.ranks[k] >= first[list] + int64_t(lists[list].size())) ++list;
      found[k] = lists[list][p.ranks[k] - first[list]];
    }
  }

  const Rows& p;
  std::vector<uint16_t> interval;
  std::vector<std::vector<double>> lists;
};

}  // namespace

// False without memory, or where more than 254 are wanted.
MIXFLEET_API bool mixfleet_order_statistics(const Rows* rows) {
  if (rows->wanted >= kNobody) return false;
  try {
    Selection selection(*rows);
    for (int64_t r = 0; r < rows->rows; ++r) {
      selection.run(rows->values + r * rows->length, rows->found + r * rows->wanted);
    }
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}
