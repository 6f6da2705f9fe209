// Responses of one vector of draws after another.
//
// Compiled once per instruction set, which MIXFLEET_ISA names; native.cpp picks one at run time. Everything but the
// entries at the end has internal linkage, so that no code for a newer processor is merged into the others.

#include <cstring>
#include <memory>

#include "native.h"
#include "../likelihood/native_carry.h"
#include "../likelihood/native_curves.h"

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

// `visit` of the channel's curve, of whatever family.
template <class Visit>
void with_curve(const Curves& curves, int64_t channel, const Lanes& lanes, Visit visit) {
  V parameter[kMostParameters] = {};
  for (int64_t j = 0; j < curves.parameters; ++j) parameter[j] = lanes.load(curves.parameter[j] + channel * curves.draws);
  switch (curves.family) {
    case 0: return visit(Logistic<double>(parameter));
    case 1: return visit(Hill<double>(parameter));
    case 2: return visit(Tanh<double>(parameter));
    case 3: return visit(MichaelisMenten<double>(parameter));
    case 4: return visit(Saturating<double>(parameter));
    case 5: return visit(Root<double>(parameter));
    case 6: return visit(Log<double>(parameter));
    default: return visit(Straight<double>(parameter));
  }
}

void respond(const Past& p) {
  const Curves& curves = p.curves;
  const int64_t before = p.window - 1, filled = (p.weeks + p.window) / p.window * p.window;
  Vectors memory(before + filled + 4 * (p.window + 1) + p.weeks * (1 + curves.channels) + p.weights);
  V* const column = memory.take(before + filled) + before;
  V* const power = memory.take(4 * (p.window + 1));
  V* const slope = power + p.window + 1;
  V* const end = slope + p.window + 1;
  V* const weekly = memory.take(p.weeks);
  V* const mean = memory.take(p.weeks * curves.channels);
  V* const sum = memory.take(p.weights);
  // Nothing was bought before the first week.
  for (int64_t t = -before; t < filled; ++t) column[t] = V{};
  for (int64_t i = 0; i < p.weeks * curves.channels; ++i) mean[i] = V{};
  each_vector(curves.draws, [&](const Lanes& lanes) {
    for (int64_t t = 0; t < p.weeks; ++t) weekly[t] = V{};
    for (int64_t c = 0; c < curves.channels; ++c) {
      const V decay = lanes.load(p.decay + c * curves.draws), effect = lanes.load(curves.effect + c * curves.draws);
      V total = M::splat(1);
      for (int64_t l = 1; p.normalised && l < p.window; ++l) total = 1 + decay * total;
      for (int64_t k = 0; k < p.weights; ++k) sum[k] = V{};
      with_curve(curves, c, lanes, [&](const auto curve) {
        const V scale = curve.scale / total;
        for (int64_t t = 0; t < p.weeks; ++t) column[t] = scale * p.media[t * curves.channels + c];
        Recursion<double> carry{decay, p.window, power, slope, end, end + p.window + 1};
        carry.fill();
        carry.each_week(column, 0, p.weeks, [&](int64_t t, V carried, const V*) MIXFLEET_INLINED {
          const V value = effect * curve(carried).value;
          weekly[t] += value;
          mean[t * curves.channels + c] += lanes.only(value);
          for (int64_t k = 0; k < p.weights; ++k) sum[k] += p.weight[t * p.weights + k] * value;
        });
      });
      for (int64_t k = 0; k < p.weights; ++k) lanes.store(p.sum + (k * curves.channels + c) * curves.draws, sum[k]);
    }
    for (int64_t t = 0; t < p.weeks; ++t) lanes.store(p.weekly + t * curves.draws, weekly[t]);
  });
  for (int64_t i = 0; i < p.weeks * curves.channels; ++i) {
    double all = 0;
    for (int j = 0; j < kLanes; ++j) all += mean[i][j];
    p.mean[i] = all / double(curves.draws);
  }
}

void saturate(const Levels& p) {
  const Curves& curves = p.curves;
  each_vector(curves.draws, [&](const Lanes& lanes) {
    for (int64_t c = 0; c < curves.channels; ++c) {
      const V effect = lanes.load(curves.effect + c * curves.draws), gain = lanes.load(p.gain + c * curves.draws);
      with_curve(curves, c, lanes, [&](const auto curve) {
        const V scale = curve.scale * gain, along = curve.slope_factor * scale * effect;
        for (int64_t l = 0; l < p.levels; ++l) {
          const auto shape = curve(scale * p.level[l * curves.channels + c]);
          const int64_t row = (l * curves.channels + c) * curves.draws;
          lanes.store(p.value + row, effect * shape.value), lanes.store(p.slope + row, along * shape.slope);
        }
      });
    }
  });
}

}  // namespace
}  // namespace mixfleet

extern "C" void MIXFLEET_ENTRY(mixfleet_past, MIXFLEET_ISA)(const mixfleet::Past* p) { mixfleet::respond(*p); }
extern "C" void MIXFLEET_ENTRY(mixfleet_levels, MIXFLEET_ISA)(const mixfleet::Levels* p) { mixfleet::saturate(*p); }
