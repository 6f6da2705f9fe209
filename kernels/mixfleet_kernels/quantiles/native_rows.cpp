// Mean, spread and order statistics of rows, without sorting them: values are counted by intervals of equal length, and
// only the intervals that hold a wanted one are looked into.
//
// Compiled once per instruction set, which MIXFLEET_ISA names.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "native.h"
#include "../likelihood/native_math.h"

#define MIXFLEET_JOIN(name, isa) name##_##isa
#define MIXFLEET_ENTRY(name, isa) MIXFLEET_JOIN(name, isa)

namespace mixfleet {
namespace {

using M = Math<double>;
using V = M::V;

constexpr int64_t kIntervals = 1024;
constexpr uint8_t kNobody = 255;

// Numbers of intervals side by side.
typedef uint16_t Side __attribute__((vector_size(MIXFLEET_VECTOR_BYTES)));
constexpr int64_t kSide = sizeof(Side) / sizeof(uint16_t);

V load(const double* values) {
  V v;
  std::memcpy(&v, values, sizeof(v));
  return v;
}

class Selection {
 public:
  explicit Selection(const Rows& given)
      : p(given), whole(p.length / M::kLanes * M::kLanes), interval(p.length + kSide), lists(p.wanted) {}

  void run(int64_t row) {
    const double* const values = p.values + row * p.length;
    double* const found = p.found + row * p.wanted;
    // A sum tells whether one of them is no number.
    double low = values[0], high = values[0], sum = 0;
    V lows = M::splat(low), highs = lows, sums = {};
    for (int64_t i = 0; i < whole; i += M::kLanes) {
      const V v = load(values + i);
      lows = v < lows ? v : lows, highs = v > highs ? v : highs, sums += v;
    }
    for (int i = 0; i < M::kLanes; ++i) low = std::min(low, lows[i]), high = std::max(high, highs[i]), sum += sums[i];
    for (int64_t i = whole; i < p.length; ++i) {
      low = values[i] < low ? values[i] : low, high = values[i] > high ? values[i] : high, sum += values[i];
    }
    const double mean = sum / double(p.length);
    p.mean[row] = mean, p.sd[row] = std::sqrt(squares(values, mean) / double(p.length - 1));
    const double per_unit = kIntervals / (high - low);
    if (std::isnan(sum) && holds_no_number(values)) {
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
  double squares(const double* values, double mean) const {
    V sums = {};
    double sum = 0;
    for (int64_t i = 0; i < whole; i += M::kLanes) {
      const V away = load(values + i) - mean;
      sums += away * away;
    }
    for (int i = 0; i < M::kLanes; ++i) sum += sums[i];
    for (int64_t i = whole; i < p.length; ++i) sum += (values[i] - mean) * (values[i] - mean);
    return sum;
  }

  // The sum of infinite values of both signs is none either.
  bool holds_no_number(const double* values) const {
    return std::any_of(values, values + p.length, [](double value) { return std::isnan(value); });
  }

  void select(const double* values, double* found, double low, double per_unit) {
    // In the order of the values, whatever rounding does.
    for (int64_t i = 0; i < p.length; ++i) interval[i] = uint16_t(int32_t((values[i] - low) * per_unit));
    int32_t counts[kIntervals + 1] = {};
    for (int64_t i = 0; i < p.length; ++i) ++counts[interval[i]];
    uint8_t list_of[kIntervals + 1];
    std::memset(list_of, kNobody, sizeof(list_of));
    int64_t before = 0, first[256];
    uint16_t wanted[256];
    int lists_used = 0;
    for (int64_t b = 0, k = 0; k < p.wanted; before += counts[b++]) {
      if (p.ranks[k] >= before + counts[b]) continue;
      first[lists_used] = before, wanted[lists_used] = uint16_t(b);
      lists[lists_used].clear();
      list_of[b] = uint8_t(lists_used++);
      while (k < p.wanted && p.ranks[k] < before + counts[b]) ++k;
    }
    for (int64_t start = 0; start < p.length; start += kSide) {
      if (!any_of(&interval[start], wanted, lists_used)) continue;
      for (int64_t i = start; i < std::min(start + kSide, p.length); ++i) {
        if (list_of[interval[i]] != kNobody) lists[list_of[interval[i]]].push_back(values[i]);
      }
    }
    for (int list = 0; list < lists_used; ++list) std::sort(lists[list].begin(), lists[list].end());
    for (int64_t k = 0, list = 0; k < p.wanted; ++k) {
      while (p.ranks[k] >= first[list] + int64_t(lists[list].size())) ++list;
      found[k] = lists[list][p.ranks[k] - first[list]];
    }
  }

  // Whether one of the next intervals is wanted; most often none is.
  static bool any_of(const uint16_t* next, const uint16_t* wanted, int count) {
    Side side, found = {};
    std::memcpy(&side, next, sizeof(side));
    for (int k = 0; k < count; ++k) found |= Side(side == wanted[k] - Side{});
    uint64_t parts[sizeof(Side) / sizeof(uint64_t)], any = 0;
    std::memcpy(parts, &found, sizeof(parts));
    for (uint64_t part : parts) any |= part;
    return any != 0;
  }

  const Rows& p;
  const int64_t whole;
  std::vector<uint16_t> interval;
  std::vector<std::vector<double>> lists;
};

}  // namespace
}  // namespace mixfleet

extern "C" bool MIXFLEET_ENTRY(mixfleet_rows, MIXFLEET_ISA)(const mixfleet::Rows* rows) {
  if (rows->wanted >= mixfleet::kNobody) return false;
  try {
    mixfleet::Selection selection(*rows);
    for (int64_t r = 0; r < rows->rows; ++r) selection.run(r);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}
