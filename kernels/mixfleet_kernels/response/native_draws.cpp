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

// Vectors in one piece of memory that belongs to the call.
template <class V>
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
template <class T>
struct Lanes {
  using V = typename Math<T>::V;
  static constexpr int kLanes = Math<T>::kLanes;
  int64_t first, held;

  V load(const double* row) const {
    V v;
    for (int64_t i = 0; i < kLanes; ++i) v[i] = T(row[first + (i < held ? i : held - 1)]);
    return v;
  }

  void store(double* row, V v) const {
    double wide[kLanes];
    T narrow[kLanes];
    std::memcpy(narrow, &v, sizeof(v));
    for (int i = 0; i < kLanes; ++i) wide[i] = narrow[i];
    std::memcpy(row + first, wide, held * sizeof(double));
  }

  // Nothing in the lanes that repeat one.
  V only(V v) const {
    for (int64_t i = held; i < kLanes; ++i) v[i] = 0;
    return v;
  }
};

template <class T, class Visit>
void each_vector(int64_t draws, Visit visit) {
  constexpr int kLanes = Math<T>::kLanes;
  for (int64_t first = 0; first < draws; first += kLanes) {
    visit(Lanes<T>{first, draws - first < kLanes ? draws - first : kLanes});
  }
}

// One channel's parameters in the draws of one vector.
template <class T>
struct Parameters {
  typename Math<T>::V adstock[kMostParameters] = {}, saturation[kMostParameters] = {};

  Parameters(const Curves& curves, int64_t channel, const Lanes<T>& lanes) {
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
template <class V>
V sum_of_powers(const Form& form, V decay) {
  V total = V{} + 1;
  for (int64_t l = 1; form.normalised && l < form.window; ++l) total = 1 + decay * total;
  return total;
}

template <class T>
void respond(const Past& p) {
  using V = typename Math<T>::V;
  const Curves& curves = p.curves;
  const int64_t longest = longest_window(curves), before = longest - 1, filled = p.weeks + std::max<int64_t>(longest, kBlock);
  Vectors<V> memory(before + filled + 4 * (longest + 1) + p.weeks * (1 + curves.channels) + 2 * p.weights);
  V* const column = memory.take(before + filled) + before;
  V* const window = memory.take(4 * (longest + 1));
  V* const weekly = memory.take(p.weeks);
  V* const mean = memory.take(p.weeks * curves.channels);
  V* const sum = memory.take(p.weights);
  V* const slope = memory.take(p.weights);
  // Nothing was bought before the first week.
  for (int64_t t = -before; t < filled; ++t) column[t] = V{};
  for (int64_t i = 0; i < p.weeks * curves.channels; ++i) mean[i] = V{};
  each_vector<T>(curves.draws, [&](const Lanes<T>& lanes) {
    for (int64_t t = 0; t < p.weeks; ++t) weekly[t] = V{};
    for (int64_t c = 0; c < curves.channels; ++c) {
      const Form& form = curves.forms[c];
      const Parameters<T> own(curves, c, lanes);
      const V effect = lanes.load(curves.effect + c * curves.draws);
      for (int64_t k = 0; k < p.weights; ++k) sum[k] = slope[k] = V{};
      with_curve<T>(form.saturation, own.saturation, [&](const auto curve) {
        const V along = effect * curve.slope_factor;
        const V scale = recursive(form) ? curve.scale / sum_of_powers(form, own.adstock[0]) : curve.scale;
        const auto add = [&](V* to, int64_t t, V value) {
          for (int64_t k = 0; k < p.weights; ++k) to[k] += T(p.weight[t * p.weights + k]) * value;
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
          mean[c * p.weeks + t] += lanes.only(value);
          add(sum, t, value);
        };
        const auto carry_over = [&] {
          for (int64_t t = 0; t < p.weeks; ++t) {
            const V media = scale * T(p.media[t * curves.channels + c]);
            column[t] = media;
            if (form.carried_first) continue;
            const auto shape = curve(media);
            column[t] = rising ? shape.slope * media : shape.value;
          }
          if (recursive(form)) {
            Recursion<T, 0> carry{own.adstock[0], form.window, window, nullptr, window + form.window + 1, nullptr};
            carry.fill();
            return carry.each_week(column, 0, p.weeks, enter);
          }
          WindowWeights<T>::fill(form, own.adstock, window);
          Window<T, 0>{window, form.window}.each_week(column, 0, p.weeks, enter);
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
  for (int64_t c = 0; c < curves.channels; ++c) {
    for (int64_t t = 0; t < p.weeks; ++t) {
      double all = 0;
      for (int j = 0; j < Math<T>::kLanes; ++j) all += mean[c * p.weeks + t][j];
      p.mean[t * curves.channels + c] = all / double(curves.draws);
    }
  }
}

// What carry-over makes of a level that is held for ever.
template <class T, class V = typename Math<T>::V>
V steady_gain(const Form& form, const V* adstock, V* window) {
  if (form.normalised || form.adstock == kNone) return Math<T>::splat(1);
  V total = {};
  if (form.adstock == kGeometric) {
    for (int64_t l = 0; l < form.window; ++l) total = 1 + adstock[0] * total;
    return total;
  }
  WindowWeights<T>::fill(form, adstock, window);
  for (int64_t l = 0; l < form.window; ++l) total += window[l];
  return total;
}

void saturate(const Levels& p) {
  using T = double;
  using V = Math<T>::V;
  const Curves& curves = p.curves;
  Vectors<V> memory(4 * (longest_window(curves) + 1));
  V* const window = memory.take(4 * (longest_window(curves) + 1));
  each_vector<T>(curves.draws, [&](const Lanes<T>& lanes) {
    for (int64_t c = 0; c < curves.channels; ++c) {
      const Form& form = curves.forms[c];
      const Parameters<T> own(curves, c, lanes);
      const V effect = lanes.load(curves.effect + c * curves.draws), gain = steady_gain<T>(form, own.adstock, window);
      with_curve<T>(form.saturation, own.saturation, [&](const auto curve) {
        // At a level that is held carry-over only multiplies: before the saturation or after it.
        const V scale = form.carried_first ? curve.scale * gain : curve.scale;
        const V strong = form.carried_first ? effect : effect * gain, along = curve.slope_factor * scale * strong;
        for (int64_t l = 0; l < p.levels; ++l) {
          const auto shape = curve(scale * T(p.level[l * curves.channels + c]));
          const int64_t row = (l * curves.channels + c) * curves.draws;
          lanes.store(p.value + row, strong * shape.value);
          if (p.slope) lanes.store(p.slope + row, along * shape.slope);
        }
      });
    }
  });
}

}  // namespace
}  // namespace mixfleet

extern "C" void MIXFLEET_ENTRY(mixfleet_past, MIXFLEET_ISA)(const mixfleet::Past* p) {
  p->single ? mixfleet::respond<float>(*p) : mixfleet::respond<double>(*p);
}
extern "C" void MIXFLEET_ENTRY(mixfleet_levels, MIXFLEET_ISA)(const mixfleet::Levels* p) {
  mixfleet::saturate(*p);
}
