// The pass itself: adstock window, saturation and Gaussian likelihood of one vector of lanes after another.
//
// Compiled once per instruction set, which MIXFLEET_ISA names; native.cpp picks one at run time. Everything but the
// two entries at the end has internal linkage, so that no code for a newer processor is merged into the others.
//
// Each channel's weeks stay in the first-level cache from carry-over to contribution; the second-level cache keeps
// value and derivatives of every channel until the residual is known and the gradient can be summed.

#include <cstdint>
#include <cstring>

#include "native.h"
#include "native_curves.h"

namespace mixfleet {
namespace {

constexpr double kLogTwoPi = 1.83787706640934548356;
constexpr int kBlock = 4;  // weeks whose carry-over is summed side by side, in registers

int64_t rows(int64_t weeks) { return weeks + kBlock; }

template <class T>
class Pass {
  using M = Math<T>;
  using V = typename M::V;
  static constexpr int kLanes = M::kLanes;

 public:
  explicit Pass(const Problem<T>& problem) : p(problem), arrays(1 + p.tangents + p.parameters) {
    const int64_t n = rows(p.weeks);
    const uintptr_t start = (reinterpret_cast<uintptr_t>(p.scratch) + sizeof(V) - 1) & ~uintptr_t(sizeof(V) - 1);
    V* free = reinterpret_cast<V*>(start);
    const auto take = [&free](int64_t count) { return (free += count) - count; };
    window = take(p.window * (1 + p.tangents));
    column = take(p.window - 1 + n) + p.window - 1;
    weight = take(n);
    residual = take(n);
    pull = take(n);
    projection = take(p.columns);
    shrunk = take(p.columns);
    effect = take(p.channels);
    shapes = take(p.channels * arrays * n);
    factors = take(p.channels * arrays);
    // Nothing was bought before the first week; weeks after the last fill the last block.
    for (int64_t t = 1 - p.window; t < n; ++t) column[t] = V{};
    for (int64_t t = 0; t < n; ++t) weight[t] = V{};
  }

  void run() {
    for (lane = 0; lane < p.lanes; lane += kLanes) {
      held = p.lanes - lane < kLanes ? p.lanes - lane : kLanes;
      find_units();
      find_weeks();
      for (int64_t c = 0; c < p.channels; ++c) add_channel(c);
      finish();
    }
  }

 private:
  // A row's lanes; lanes beyond the last repeat it.
  MIXFLEET_INLINE V load(const T* row) const {
    V v;
    if (held == kLanes) {
      std::memcpy(&v, row + lane, sizeof v);
    } else {
      for (int64_t i = 0; i < kLanes; ++i) v[i] = row[lane + (i < held ? i : held - 1)];
    }
    return v;
  }

  MIXFLEET_INLINE void store(T* row, V v) const { std::memcpy(row + lane, &v, held * sizeof(T)); }

  // Weeks outside the likelihood add exact zeros: leave out those before the first and after the last.
  void find_weeks() {
    first = p.weeks;
    int64_t last = -1;
    weeks = V{};
    const int64_t chains = p.lanes / p.units;
    for (int64_t t = 0; t < p.weeks; ++t) {
      weight[t] = load(p.weight + t * p.lanes);
      weeks += weight[t];
      bool some = false;  // the lanes of a unit share its weeks
      for (int64_t u = 0; u < units; ++u) some |= p.weight[t * p.lanes + (u == 0 ? lane : (unit + u) * chains)] != 0;
      if (some) last = t;
      if (some && first > t) first = t;
    }
    if (last < 0) first = last = 0;
    end = first + (last - first + kBlock) / kBlock * kBlock;
  }

  int64_t last_week() const { return end < p.weeks ? end : p.weeks; }

  // Which units the lanes belong to.
  void find_units() {
    const int64_t chains = p.lanes / p.units;
    unit = lane / chains;
    units = (lane + held - 1) / chains - unit + 1;
    for (int64_t i = 0; i < kLanes; ++i) {
      const int64_t own = (lane + (i < held ? i : held - 1)) / chains - unit;
      for (int64_t u = 1; u < units; ++u) of_unit[u][i] = own == u ? -1 : 0;
    }
  }

  // The lanes' vector of a value that each unit has once; `stride` leads to the next unit's.
  template <int kUnits>
  MIXFLEET_INLINE V spread(const T* value, int64_t stride) const {
    V v = M::splat(value[0]);
    const int64_t count = kUnits == 0 ? units : kUnits;
    for (int64_t u = 1; u < count; ++u) v = of_unit[u] ? M::splat(value[u * stride]) : v;
    return v;
  }

  template <int kUnits>
  void read_media(int64_t c) {
    const int64_t begin = first - p.window + 1 > 0 ? first - p.window + 1 : 0;
    const T* media = p.unit_media + c * p.units + unit;
    for (int64_t t = begin; t < last_week(); ++t) column[t] = spread<kUnits>(media + t * p.channels * p.units, 1);
  }

  void add_channel(int64_t c) {
    units == 1 ? read_media<1>(c) : units == 2 ? read_media<2>(c) : read_media<0>(c);
    for (int64_t l = 0; l < p.window; ++l) {
      const int64_t place = (l * p.channels + c) * p.lanes;
      window[l] = load(p.weights + place);
      for (int64_t j = 0; j < p.tangents; ++j) window[(1 + j) * p.window + l] = load(p.tangent[j] + place);
    }
    V parameter[kMostParameters] = {}, sums[1 + kMostShapes] = {};
    for (int64_t j = 0; j < p.parameters; ++j) parameter[j] = load(p.parameter[j] + c * p.lanes);
    V* out = shapes + c * arrays * rows(p.weeks);
    respond(parameter, out, sums, factors + c * arrays);

    const V active = load(p.active + c * p.lanes), strength = load(p.strength + c * p.lanes);
    constexpr T kLeastMean = T(1e-30);
    const V mean = M::at_least(sums[0] / weeks, kLeastMean) * active + (1 - active);
    effect[c] = p.strength_is_mean ? strength / mean : strength;
    store(p.mean_response + c * p.lanes, mean);
    store(p.effect + c * p.lanes, effect[c]);
    for (int64_t j = 1; j < arrays; ++j) {
      store(p.mean_by_shape[j - 1] + c * p.lanes, sums[j] / weeks * factors[c * arrays + j]);
    }
  }

  void respond(const V* parameter, V* out, V* sums, V* factor) {
    switch (p.family) {
      case 0: return respond_with(Logistic<T>(parameter), out, sums, factor);
      case 1: return respond_with(Hill<T>(parameter), out, sums, factor);
      case 2: return respond_with(Tanh<T>(parameter), out, sums, factor);
      case 3: return respond_with(MichaelisMenten<T>(parameter), out, sums, factor);
      case 4: return respond_with(Saturating<T>(parameter), out, sums, factor);
      case 5: return respond_with(Root<T>(parameter), out, sums, factor);
      case 6: return respond_with(Log<T>(parameter), out, sums, factor);
      default: return respond_with(Straight<T>(parameter), out, sums, factor);
    }
  }

  template <class Curve>
  void respond_with(const Curve& curve, V* out, V* sums, V* factor) {
    for (int64_t j = 0; j < p.tangents; ++j) factor[1 + j] = curve.slope_factor;
    for (int j = 0; j < Curve::kParameters; ++j) factor[1 + p.tangents + j] = curve.factor[j];
    switch (p.tangents) {
      case 0: return respond_with<Curve, 0>(curve, out, sums);
      case 1: return respond_with<Curve, 1>(curve, out, sums);
      default: return respond_with<Curve, 2>(curve, out, sums);
    }
  }

  // Writes value and derivatives of a channel's response, array after array, and sums them over the likelihood.
  template <class Curve, int kTangents>
  void respond_with(const Curve& curve, V* out, V* sums) {
    const int64_t n = rows(p.weeks), lags = p.window;
    constexpr int kParameters = Curve::kParameters;
    V sum[1 + kMostShapes] = {};
    for (int64_t t = first; t < end; t += kBlock) {
      V carried[1 + kTangents][kBlock];
      for (int b = 0; b < kBlock; ++b) {
        for (int j = 0; j <= kTangents; ++j) carried[j][b] = window[j * lags] * column[t + b];
      }
      for (int64_t l = 1; l < lags; ++l) {
        for (int b = 0; b < kBlock; ++b) {
          const V media = column[t + b - l];
          for (int j = 0; j <= kTangents; ++j) carried[j][b] += window[j * lags + l] * media;
        }
      }
      for (int b = 0; b < kBlock; ++b) {
        const auto shape = curve(carried[0][b]);
        V* row = out + t + b;
        row[0] = shape.value;
        sum[0] += weight[t + b] * shape.value;
        for (int j = 0; j < kTangents; ++j) {
          const V by_adstock = shape.slope * carried[1 + j][b];
          row[(1 + j) * n] = by_adstock;
          sum[1 + j] += weight[t + b] * by_adstock;
        }
        for (int j = 0; j < kParameters; ++j) {
          row[(1 + kTangents + j) * n] = shape.by[j];
          sum[1 + kTangents + j] += weight[t + b] * shape.by[j];
        }
      }
    }
    for (int j = 0; j < 1 + kTangents + kParameters; ++j) sums[j] = sum[j];
  }

  // Four sums side by side: one alone would wait for each addition.
  MIXFLEET_INLINE V dot(const V* a, const V* b) const {
    V sum[4] = {};
    for (int64_t t = first; t < end; t += 4) {
      for (int i = 0; i < 4; ++i) sum[i] += a[t + i] * b[t + i];
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }

  template <int kUnits>
  void project() {
    int64_t k = 0;
    for (; k + 4 <= p.columns; k += 4) project<kUnits, 4>(k);
    for (; k < p.columns; ++k) project<kUnits, 1>(k);
  }

  template <int kUnits, int kColumns>
  void project(int64_t k) {
    const T* basis = p.basis + unit * p.weeks * p.columns + k;
    V sum[kColumns] = {};
    for (int64_t t = first; t < last_week(); ++t) {
      for (int i = 0; i < kColumns; ++i) {
        sum[i] += spread<kUnits>(basis + t * p.columns + i, p.weeks * p.columns) * residual[t];
      }
    }
    for (int i = 0; i < kColumns; ++i) projection[k + i] = sum[i];
  }

  // What the basis leaves of the residual, formed before it is squared; and the pull on the media, week by week.
  template <int kUnits>
  void pull_media(V precision) {
    const T* basis = p.basis + unit * p.weeks * p.columns;
    for (int64_t t = first; t < last_week(); ++t) {
      V inside = {}, kept = {};
      for (int64_t k = 0; k < p.columns; ++k) {
        const V u = spread<kUnits>(basis + t * p.columns + k, p.weeks * p.columns);
        inside += u * projection[k];
        kept += u * shrunk[k];
      }
      residual[t] -= inside;
      pull[t] = (residual[t] * precision + kept) * weight[t];
    }
    for (int64_t t = last_week(); t < end; ++t) pull[t] = V{};
  }

  // The likelihood, from the media's total, and every gradient.
  void finish() {
    const int64_t n = rows(p.weeks);
    const V log_noise = load(p.log_noise);
    const V s2 = M::exp(2 * log_noise).value, precision = 1 / s2;
    for (int64_t t = first; t < last_week(); ++t) {
      V media = {};
      for (int64_t c = 0; c < p.channels; ++c) media += effect[c] * shapes[c * arrays * n + t];
      residual[t] = (load(p.kpi + t * p.lanes) - media) * weight[t];
    }
    for (int64_t t = last_week(); t < end; ++t) residual[t] = V{};

    units == 1 ? project<1>() : units == 2 ? project<2>() : project<0>();
    V value = {}, by_variance = {};
    for (int64_t k = 0; k < p.columns; ++k) {
      const V variance = s2 + load(p.variance + k * p.lanes), inverse = 1 / variance;
      store(p.projection + k * p.lanes, projection[k]);
      shrunk[k] = projection[k] * inverse;
      value += projection[k] * shrunk[k] + M::log(variance);
      by_variance += shrunk[k] * shrunk[k] - inverse;
    }
    units == 1 ? pull_media<1>(precision) : units == 2 ? pull_media<2>(precision) : pull_media<0>(precision);
    const V outside_squares = dot(residual, residual) * precision;
    const V spare = weeks - T(p.columns);
    value += outside_squares + 2 * spare * log_noise + weeks * T(kLogTwoPi);
    store(p.value, T(-0.5) * value);
    store(p.by_log_noise, s2 * by_variance + outside_squares - spare);

    for (int64_t c = 0; c < p.channels; ++c) {
      const V* of_channel = shapes + c * arrays * n;
      store(p.by_effect + c * p.lanes, dot(pull, of_channel));
      for (int64_t j = 1; j < arrays; ++j) {
        const V by_shape = effect[c] * factors[c * arrays + j] * dot(pull, of_channel + j * n);
        store(p.by_shape[j - 1] + c * p.lanes, by_shape);
      }
    }
  }

  const Problem<T>& p;
  const int64_t arrays;  // of a channel: value, by adstock, by saturation parameters
  V *window, *column, *weight, *residual, *pull, *projection, *shrunk, *effect, *shapes, *factors;
  int64_t lane = 0, held = 0;    // this vector's first lane and how many it has
  int64_t unit = 0, units = 0;   // the first lane's unit, and how many the lanes belong to
  typename M::I of_unit[kLanes];  // mask of each one's lanes
  int64_t first = 0, end = 0;    // its weeks, a whole number of blocks
  V weeks = {};                  // in the likelihood
};

}  // namespace
}  // namespace mixfleet

#define MIXFLEET_JOIN(name, isa) name##_##isa
#define MIXFLEET_ENTRY(name, isa) MIXFLEET_JOIN(name, isa)

extern "C" void MIXFLEET_ENTRY(mixfleet_likelihood_f32, MIXFLEET_ISA)(const mixfleet::Problem<float>* problem) {
  mixfleet::Pass<float>(*problem).run();
}

extern "C" void MIXFLEET_ENTRY(mixfleet_likelihood_f64, MIXFLEET_ISA)(const mixfleet::Problem<double>* problem) {
  mixfleet::Pass<double>(*problem).run();
}
