// Responses of one vector of draws after another.
//
// Compiled once per instruction set, which MIXFLEET_ISA names; native.cpp picks one at run time. Everything but the
// entries at the end has internal linkage, so that no code for a newer processor is merged into the others.

#include <algorithm>
#include <cstring>
#include <memory>

#include "native.h"
#include "../likelihood/native_carry.h"
#include "../likelihood/native_curves.h"
#include "../likelihood/native_windows.h"

#define MIXFLEET_JOIN(name, isa) name##_##isa
#define MIXFLEET_ENTRY(name, isa) MIXFLEET_JOIN(name, isa)

namespace mixfleet {
namespace {

using M = Math<double>;
using V = M::V;
constexpr int kLanes = M::kLanes;

// Vectors in one piece of memory that belongs to the call.
class Vectors {
 public:
  explicit Vectors(int64_t count) : memory_(new char[count * sizeof(V) + sizeof(V)]) {
    const auto at = (reinterpret_cast<uintptr_t>(memory_.get()) + sizeof(V) - 1) & ~uintptr_t(sizeof(V) - 1);
    free_ = reinterpret_cast<V*>(at);
  }

  V* take(int64_t count) { return (free_ += count) - count; }

 private:
  std::unique_ptr<char[]> memory_;
  V* free_;
};

// The draws of one vector; lanes beyond the last repeat it.
struct Lanes {
  int64_t first, held;

  V load(const double* row) const {
    V v;
    for (int64_t i = 0; i < kLanes; ++i) v[i] = row[first + (i < held ? i : held - 1)];
    return v;
  }

  void store(double* row, V v) const { std::memcpy(row + first, &v, held * sizeof(double)); }

  // Nothing in the lanes that repeat one.
  V only(V v) const {
    for (int64_t i = held; i < kLanes; ++i) v[i] = 0;
    return v;
  }
};

template <class Visit>
void each_vector(int64_t draws, Visit visit) {
  for (int64_t first = 0; first < draws; first += kLanes) visit(Lanes{first, draws - first < kLanes ? draws - first : kLanes});
}

// One channel's parameters in the draws of one vector.
struct Parameters {
  V adstock[kMostParameters] = {}, saturation[kMostParameters] = {};

  Parameters(const Curves& curves, int64_t channel, const Lanes& lanes) {
    const Form& form = curves.forms[channel];
    const int64_t before = window_parameters(form), all = before + curve_parameters(form.saturation);
    for (int64_t j = 0; j < all; ++j) {
      const int64_t row = curves.places[channel * kMostShapes + j];
      (j < before ? adstock[j] : saturation[j - before]) =
          lanes.load(curves.shape + (row * curves.channels + channel) * curves.draws);
    }
  }
};

int64_t longest_window(const Curves& curves) {
  int64_t longest = 1;
  for (int64_t c = 0; c < curves.channels; ++c) longest = std::max(longest, curves.forms[c].window);
  return longest;
}

// The sum of a geometric window's weights.
V sum_of_powers(const Form& form, V decay) {
  V total = M::splat(1);
  for (int64_t l = 1; form.normalised && l < form.window; ++l) total = 1 + decay * total;
  return total;
}

void respond(const Past& p) {
  const Curves& curves = p.curves;
  const int64_t longest = longest_window(curves), before = longest - 1, filled = p.weeks + std::max<int64_t>(longest, kBlock);
  Vectors memory(before + filled + 4 * (longest + 1) + p.weeks * (1 + curves.channels) + 2 * p.weights);
  V* const column = memory.take(before + filled) + before;
  V* const window = memory.take(4 * (longest + 1));
  V* const weekly = memory.take(p.weeks);
  V* const mean = memory.take(p.weeks * curves.channels);
  V* const sum = memory.take(p.weights);
  V* const slope = memory.take(p.weights);
  // Nothing was bought before the first week.
  for (int64_t t = -before; t < filled; ++t) column[t] = V{};
  for (int64_t i = 0; i < p.weeks * curves.channels; ++i) mean[i] = V{};
  each_vector(curves.draws, [&](const Lanes& lanes) {
    for (int64_t t = 0; t < p.weeks; ++t) weekly[t] = V{};
    for (int64_t c = 0; c < curves.channels; ++c) {
      const Form& form = curves.forms[c];
      const Parameters own(curves, c, lanes);
      const V effect = lanes.load(curves.effect + c * curves.draws);
      for (int64_t k = 0; k < p.weights; ++k) sum[k] = slope[k] = V{};
      with_curve<double>(form.saturation, own.saturation, [&](const auto curve) {
        const V along = effect * curve.slope_factor;
        const V scale = recursive(form) ? curve.scale / sum_of_powers(form, own.adstock[0]) : curve.scale;
        const auto add = [&](V* to, int64_t t, V value) {
          for (int64_t k = 0; k < p.weights; ++k) to[k] += p.weight[t * p.weights + k] * value;
        };
        // Where media saturate before they are carried over, slopes are carried over after the values.
        bool rising = false;
        const auto enter = [&](int64_t t, V carried, const V*) MIXFLEET_INLINED {
          if (t >= p.weeks) return;
          if (rising) return add(slope, t, along * carried);
          V value = effect * carried;
          if (form.carried_first) {
            const auto shape = curve(carried);
            value = effect * shape.value;
            if (p.slope) add(slope, t, along * (shape.slope * carried));
          }
          weekly[t] += value;
          mean[t * curves.channels + c] += lanes.only(value);
          add(sum, t, value);
        };
        const auto carry_over = [&] {
          for (int64_t t = 0; t < p.weeks; ++t) {
            const V media = scale * p.media[t * curves.channels + c];
            column[t] = media;
            if (form.carried_first) continue;
            const auto shape = curve(media);
            column[t] = rising ? shape.slope * media : shape.value;
          }
          if (recursive(form)) {
            V *inner = window + form.window + 1, *end = inner + form.window + 1;
            Recursion<double> carry{own.adstock[0], form.window, window, inner, end, end + form.window + 1};
            carry.fill();
            return carry.each_week(column, 0, p.weeks, enter);
          }
          WindowWeights<double>::fill(form, own.adstock, window);
          Window<double, 0>{window, form.window}.each_week(column, 0, p.weeks, enter);
        };
        carry_over();
        if (p.slope && !form.carried_first) rising = true, carry_over();
      });
      for (int64_t k = 0; k < p.weights; ++k) {
        const int64_t row = (k * curves.channels + c) * curves.draws;
        lanes.store(p.sum + row, sum[k]);
        if (p.slope) lanes.store(p.slope + row, slope[k]);
      }
    }
    for (int64_t t = 0; t < p.weeks; ++t) lanes.store(p.weekly + t * curves.draws, weekly[t]);
  });
  for (int64_t i = 0; i < p.weeks * curves.channels; ++i) {
    double all = 0;
    for (int j = 0; j < kLanes; ++j) all += mean[i][j];
    p.mean[i] = all / double(curves.draws);
  }
}

// What carry-over makes of a level that is held for ever.
V steady_gain(const Form& form, const V* adstock, V* window) {
  if (form.normalised || form.adstock == kNone) return M::splat(1);
  V total = {};
  if (form.adstock == kGeometric) {
    for (int64_t l = 0; l < form.window; ++l) total = 1 + adstock[0] * total;
    return total;
  }
  WindowWeights<double>::fill(form, adstock, window);
  for (int64_t l = 0; l < form.window; ++l) total += window[l];
  return total;
}

void saturate(const Levels& p) {
  const Curves& curves = p.curves;
  Vectors memory(4 * (longest_window(curves) + 1));
  V* const window = memory.take(4 * (longest_window(curves) + 1));
  each_vector(curves.draws, [&](const Lanes& lanes) {
    for (int64_t c = 0; c < curves.channels; ++c) {
      const Form& form = curves.forms[c];
      const Parameters own(curves, c, lanes);
      const V effect = lanes.load(curves.effect + c * curves.draws), gain = steady_gain(form, own.adstock, window);
      with_curve<double>(form.saturation, own.saturation, [&](const auto curve) {
        // At a level that is held carry-over only multiplies: before the saturation or after it.
        const V scale = form.carried_first ? curve.scale * gain : curve.scale;
        const V strong = form.carried_first ? effect : effect * gain, along = curve.slope_factor * scale * strong;
        for (int64_t l = 0; l < p.levels; ++l) {
          const auto shape = curve(scale * p.level[l * curves.channels + c]);
          const int64_t row = (l * curves.channels + c) * curves.draws;
          lanes.store(p.value + row, strong * shape.value), lanes.store(p.slope + row, along * shape.slope);
        }
      });
    }
  });
}

}  // namespace
}  // namespace mixfleet

extern "C" void MIXFLEET_ENTRY(mixfleet_past, MIXFLEET_ISA)(const mixfleet::Past* p) { mixfleet::respond(*p); }
extern "C" void MIXFLEET_ENTRY(mixfleet_levels, MIXFLEET_ISA)(const mixfleet::Levels* p) { mixfleet::saturate(*p); }
