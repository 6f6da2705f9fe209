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
#include "native_carry.h"
#include "native_correlated.h"
#include "native_curves.h"
#include "native_vector.h"
#include "native_windows.h"

namespace mixfleet {
namespace {

constexpr double kLogTwoPi = 1.83787706640934548356;

template <class T>
class Pass : Vector<T> {
  using M = Math<T>;
  using V = typename M::V;
  using I = typename M::I;
  using Vector<T>::lane, Vector<T>::unit, Vector<T>::units, Vector<T>::load, Vector<T>::store;

  template <int kUnits>
  MIXFLEET_INLINE V spread(const T* value, int64_t stride) const {
    return Vector<T>::template spread<kUnits>(value, stride);
  }

 public:
  explicit Pass(const Problem<T>& problem) : p(problem), whitening(p, *this), arrays(1 + p.tangents + p.parameters) {
    const int64_t n = rows();
    const uintptr_t start = (reinterpret_cast<uintptr_t>(p.scratch) + sizeof(V) - 1) & ~uintptr_t(sizeof(V) - 1);
    V* free = reinterpret_cast<V*>(start);
    const auto take = [&free](int64_t count) { return (free += count) - count; };
    window = take((p.window + 1) * 4);
    for (V*& media : columns) media = take(p.window - 1 + n) + p.window - 1;
    weight = take(n);
    residual = take(n);
    counts = reinterpret_cast<I*>(take(n));
    pull = take(n);
    projection = take(p.columns);
    shrunk = take(p.columns);
    solved = take(p.columns);
    pivot = take(p.columns);
    factor = take(p.columns * p.columns);
    inverse = take(p.columns * p.columns);
    effect = take(p.channels);
    share_slope = take(p.channels);
    owns = reinterpret_cast<Own*>(take(p.channels * kOwnVectors));
    shapes = take(p.channels * arrays * n);
    factors = take(p.channels * arrays);
    whitening.place(free, n);
    // Nothing was bought before the first week; weeks after the last fill the last block.
    for (V* media : columns) {
      for (int64_t t = 1 - p.window; t < n; ++t) media[t] = V{};
    }
    for (int64_t t = 0; t < n; ++t) weight[t] = V{}, counts[t] = I{};
  }

  // The last block of weeks may go beyond the last week.
  int64_t rows() const { return p.weeks + (p.window > kBlock ? p.window : kBlock); }

  void run() {
    for (int64_t at = p.begin; at < p.end; at += M::kLanes) {
      if (!wanted(at)) continue;
      this->take(at, p.end, p.lanes / p.units);
      find_weeks();
      for (int64_t c = 0; c < p.channels; ++c) add_channel(c);
      finish();
    }
  }

 private:
  // Whether a lane of the vector that begins here is asked for.
  bool wanted(int64_t at) const {
    bool some = p.asked == nullptr;
    for (int64_t lane = at; lane < at + M::kLanes && lane < p.end; ++lane) some = some || p.asked[lane] != 0;
    return some;
  }

  // What a channel has of its own: `arrays` numbers a week, value, by adstock, by saturation parameters.
  struct Own {
    V* shapes;        // [week][array]
    int64_t arrays, tangents;
    int64_t elastic;  // place among the arrays of slope times media
    bool recursion;
  };
  static constexpr int64_t kOwnVectors = (sizeof(Own) + sizeof(V) - 1) / sizeof(V);

  // Weeks outside the likelihood add exact zeros: leave out those before the first and after the last.
  void find_weeks() {
    first = p.weeks;
    int64_t last = -1;
    weeks = number = V{};
    const int64_t chains = p.lanes / p.units;
    for (int64_t t = 0; t < p.weeks; ++t) {
      weight[t] = load(p.weight + t * p.lanes);
      counts[t] = weight[t] != 0;
      weeks += weight[t];
      number += counts[t] ? V{} + 1 : V{};
      bool some = false;  // the lanes of a unit share its weeks
      for (int64_t u = 0; u < units; ++u) some |= p.weight[t * p.lanes + (u == 0 ? lane : (unit + u) * chains)] != 0;
      if (some) last = t;
      if (some && first > t) first = t;
    }
    if (last < 0) first = last = 0;
    // Blocks begin where they would without the other units of the vector.
    first = first / kBlock * kBlock;
    end = (last + kBlock) / kBlock * kBlock;
  }

  int64_t last_week() const { return end < p.weeks ? end : p.weeks; }

  void read_media(int64_t c, V scale) {
    units == 1 ? read_media<1>(c, scale) : units == 2 ? read_media<2>(c, scale) : read_media<0>(c, scale);
  }

  template <int kUnits>
  void read_media(int64_t c, V scale) {
    const T* media = p.unit_media + c * p.units + unit;
    V* const column = columns[0];
    for (int64_t t = history(c); t < last_week(); ++t) {
      column[t] = scale * spread<kUnits>(media + t * p.channels * p.units, 1);
    }
  }

  // The first week that carries over into the likelihood's.
  int64_t history(int64_t c) const {
    const int64_t lags = p.forms[c].window, begin = first / lags * lags - lags;
    return begin > 0 ? begin : 0;
  }

  void add_channel(int64_t c) {
    V parameter[kMostParameters] = {};
    for (int64_t j = 0; j < p.parameters; ++j) parameter[j] = load(p.parameter[j] + c * p.lanes);
    with_curve<T>(p.forms[c].saturation, parameter, [&](const auto& curve) { respond(c, curve); });
  }

  template <class Curve>
  void respond(int64_t c, const Curve& curve) {
    const Form& form = p.forms[c];
    const int64_t lags = form.window, tangents = form.adstock == kGiven ? p.tangents : window_parameters(form);
    V* factor = factors + c * arrays;
    for (int64_t j = 0; j < tangents; ++j) factor[1 + j] = form.carried_first ? curve.slope_factor : M::splat(1);
    for (int j = 0; j < Curve::kParameters; ++j) factor[1 + tangents + j] = curve.factor[j];
    owns[c] = {shapes + c * rows() * arrays, 1 + tangents + Curve::kParameters, tangents,
               Curve::kElastic == kValue ? 0 : 1 + tangents + Curve::kElastic, recursive(form)};
    if (recursive(form)) {
      const V decay = load(p.adstock[0] + c * p.lanes);
      V total = M::splat(1), by_decay = V{};
      for (int64_t l = 1; form.normalised && l < lags; ++l) by_decay = total + decay * by_decay, total = 1 + decay * total;
      share_slope[c] = -by_decay / total;
      read_media(c, curve.scale / total);
      V *slope = window + lags + 1, *end = slope + lags + 1, *end_by = end + lags + 1;
      Recursion<T> carry{decay, lags, window, slope, end, end_by};
      carry.fill();
      return respond<1>(c, curve, carry);
    }
    read_media(c, curve.scale);
    if (!form.carried_first) saturate(columns, history(c), last_week(), curve);
    form.adstock == kGiven ? load_window(c) : make_window(c, tangents);
    switch (tangents) {
      case 0: return respond_by(c, curve, Window<T, 0>{window, lags});
      case 1: return respond_by(c, curve, Window<T, 1>{window, lags});
      default: return respond_by(c, curve, Window<T, 2>{window, lags});
    }
  }

  template <int kTangents, class Curve>
  void respond_by(int64_t c, const Curve& curve, const Window<T, kTangents>& carry) {
    p.forms[c].carried_first ? respond<kTangents>(c, curve, carry) : respond_saturated<kTangents, Curve>(c, carry);
  }

  void load_window(int64_t c) {
    for (int64_t l = 0; l < p.window; ++l) {
      const int64_t place = (l * p.channels + c) * p.lanes;
      window[l] = load(p.weights + place);
      for (int64_t j = 0; j < p.tangents; ++j) window[(1 + j) * p.window + l] = load(p.tangent[j] + place);
    }
  }

  void make_window(int64_t c, int64_t tangents) {
    V parameter[kMostParameters] = {};
    for (int64_t j = 0; j < tangents; ++j) parameter[j] = load(p.adstock[j] + c * p.lanes);
    WindowWeights<T>::fill(p.forms[c], parameter, window);
  }

  // Writes value and derivatives of a channel's response, week after week, and its effect.
  template <int kTangents, class Curve, class Carry>
  void respond(int64_t c, const Curve curve, const Carry carry) {
    constexpr int kArrays = 1 + kTangents + Curve::kParameters;
    V* const out = owns[c].shapes;
    const I* const counted = counts;
    V sum[kArrays] = {};
    each_saturated<kTangents>(columns[0], first, end, curve, carry, [&](int64_t t, const V* row) MIXFLEET_INLINED {
      for (int j = 0; j < kArrays; ++j) {
        out[t * kArrays + j] = row[j];
        sum[j] = counted[t] ? sum[j] + row[j] : sum[j];
      }
    });
    conclude<kArrays>(c, sum);
  }

  // The same of what `saturate` made of the media.
  template <int kTangents, class Curve>
  void respond_saturated(int64_t c, const Window<T, kTangents> carry) {
    constexpr int kArrays = 1 + kTangents + Curve::kParameters;
    V* const out = owns[c].shapes;
    const I* const counted = counts;
    V sum[kArrays] = {};
    each_carried<kTangents, Curve::kParameters>(columns, first, end, carry, [&](int64_t t, int j, V made) MIXFLEET_INLINED {
      out[t * kArrays + j] = made;
      sum[j] = counted[t] ? sum[j] + made : sum[j];
    });
    conclude<kArrays>(c, sum);
  }

  // The effect, from the sums over the weeks of the likelihood, and what moves their means.
  template <int kArrays>
  void conclude(int64_t c, V* sum) {
    const V active = load(p.active + c * p.lanes), strength = load(p.strength + c * p.lanes);
    constexpr T kLeastMean = T(1e-30);
    const V mean = M::at_least(sum[0] / number, kLeastMean) * active + (1 - active);
    effect[c] = p.strength_is_mean ? strength / mean : strength;
    store(p.mean_response + c * p.lanes, mean);
    store(p.effect + c * p.lanes, effect[c]);
    add_share(c, sum);
    for (int j = 1; j < kArrays; ++j) sum[j] = sum[j] / number * factors[c * arrays + j];
    store_by_shape(c, sum, p.mean_by_shape);
  }

  // What a channel's own arrays make of every parameter; nothing of those that it has not.
  void store_by_shape(int64_t c, const V* made, T* const* by_shape) const {
    const Own& own = owns[c];
    const int64_t beside = p.tangents - own.tangents;
    for (int64_t j = 1; j < arrays; ++j) {
      const int64_t at = j <= own.tangents ? j : j <= p.tangents ? own.arrays : j - beside;
      store(by_shape[j - 1] + c * p.lanes, at < own.arrays ? made[at] : V{});
    }
  }

  // What a recursion carries is divided by the sum of the window's weights, whose derivative is owed yet.
  void add_share(int64_t c, V* by) const {
    if (owns[c].recursion) by[1] += share_slope[c] * by[owns[c].elastic];
  }

  // Four sums side by side: one alone would wait for each addition.
  MIXFLEET_INLINE V dot(const V* a, const V* b) const {
    V sum[4] = {};
    for (int64_t t = first; t < end; t += 4) {
      for (int i = 0; i < 4; ++i) sum[i] += a[t + i] * b[t + i];
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }

  void project(const V* values) { units == 1 ? project<1>(values) : units == 2 ? project<2>(values) : project<0>(values); }

  template <int kUnits>
  void project(const V* values) {
    int64_t k = 0;
    for (; k + 4 <= p.columns; k += 4) project<kUnits, 4>(values, k);
    for (; k < p.columns; ++k) project<kUnits, 1>(values, k);
  }

  template <int kUnits, int kColumns>
  void project(const V* values, int64_t k) {
    const T* basis = p.basis + unit * p.weeks * p.columns + k;
    V sum[kColumns] = {};
    for (int64_t t = first; t < last_week(); ++t) {
      for (int i = 0; i < kColumns; ++i) {
        sum[i] += spread<kUnits>(basis + t * p.columns + i, p.weeks * p.columns) * values[t];
      }
    }
    for (int i = 0; i < kColumns; ++i) projection[k + i] = sum[i];
  }

  // Takes what the basis has at such coefficients out of the residual.
  void leave(const V* coefficients) {
    units == 1 ? leave<1>(coefficients) : units == 2 ? leave<2>(coefficients) : leave<0>(coefficients);
  }

  template <int kUnits>
  void leave(const V* coefficients) {
    const T* basis = p.basis + unit * p.weeks * p.columns;
    int64_t t = first;
    for (; t + kBlock <= last_week(); t += kBlock) leave<kUnits, kBlock>(basis, t, coefficients);
    for (; t < last_week(); ++t) leave<kUnits, 1>(basis, t, coefficients);
  }

  template <int kUnits, int kWeeks>
  MIXFLEET_INLINE void leave(const T* basis, int64_t first, const V* coefficients) {
    V inside[kWeeks] = {};
    for (int64_t k = 0; k < p.columns; ++k) {
      const V along = coefficients[k];
      for (int i = 0; i < kWeeks; ++i) {
        inside[i] += spread<kUnits>(basis + (first + i) * p.columns + k, p.weeks * p.columns) * along;
      }
    }
    for (int i = 0; i < kWeeks; ++i) residual[first + i] -= inside[i];
  }

  // The projection over its variance; adds the logarithm of the determinant and the inverse's trace.
  void shrink(V s2, V& value, V& trace) {
    for (int64_t k = 0; k < p.columns; ++k) {
      const V variance = s2 + load(p.variance + k * p.lanes), inverse = 1 / variance;
      shrunk[k] = projection[k] * inverse;
      value += M::log(variance), trace += inverse;
    }
  }

  // The same with a covariance; the factor's inverse has the trace.
  void shrink_densely(V s2, V& value, V& trace) {
    const auto entry = [&](int64_t i, int64_t j) { return load(p.variance + (i * p.columns + j) * p.lanes); };
    solve(s2, entry, [&](V last, V own) { value += M::log(last), trace += own; });
  }

  // The inverse of a symmetric matrix, s2 added to its diagonal, times the projection, by unit lower factor, pivots and
  // transposed factor. Each row's pivot and its share of the inverse's trace are handed over.
  template <class Entry, class Enter>
  void solve(V s2, Entry entry, Enter enter) {
    const int64_t n = p.columns;
    for (int64_t i = 0; i < n; ++i) {
      V *row = factor + i * n, *inverted = inverse + i * n, last = s2 + entry(i, i);
      for (int64_t j = 0; j < i; ++j) {
        V rest = entry(i, j);
        for (int64_t k = 0; k < j; ++k) rest -= inverted[k] * factor[j * n + k];
        inverted[j] = rest;
        row[j] = rest * pivot[j];
        last -= rest * row[j];
      }
      pivot[i] = 1 / last;
      V along = projection[i], squares = M::splat(1);
      for (int64_t j = 0; j < i; ++j) {
        V sum = row[j];
        for (int64_t k = j + 1; k < i; ++k) sum += row[k] * inverse[k * n + j];
        inverted[j] = -sum;
        along -= sum * projection[j];
        squares += sum * sum;
      }
      solved[i] = along * pivot[i];
      enter(last, squares * pivot[i]);
    }
    for (int64_t j = 0; j < n; ++j) {
      shrunk[j] = solved[j];
      for (int64_t i = j + 1; i < n; ++i) shrunk[j] += inverse[i * n + j] * solved[i];
    }
  }

  // The likelihood, from the media's total, and every gradient.
  void finish() {
    const V log_noise = load(p.log_noise);
    const V s2 = M::exp(2 * log_noise).value, precision = 1 / s2;
    int64_t t = first;
    for (; t + kBlock <= last_week(); t += kBlock) take_media<kBlock>(t);
    for (; t < last_week(); ++t) take_media<1>(t);
    for (; t < end; ++t) residual[t] = V{};

    p.gaps > 0 ? whiten(s2, precision, log_noise) : integrate(s2, precision, log_noise);
    for (int64_t c = 0; c < p.channels; ++c) {
      switch (owns[c].arrays) {
        case 1: pull_on<1>(c); break;
        case 2: pull_on<2>(c); break;
        case 3: pull_on<3>(c); break;
        case 4: pull_on<4>(c); break;
        default: pull_on<5>(c);
      }
    }
  }

  // What all media leave of the KPI.
  template <int kWeeks>
  MIXFLEET_INLINE void take_media(int64_t t) {
    V media[kWeeks] = {};
    for (int64_t c = 0; c < p.channels; ++c) {
      const int64_t stride = owns[c].arrays;
      const V *row = owns[c].shapes + t * stride, strong = effect[c];
      for (int i = 0; i < kWeeks; ++i) media[i] += strong * row[i * stride];
    }
    for (int i = 0; i < kWeeks; ++i) residual[t + i] = (load(p.kpi + (t + i) * p.lanes) - media[i]) * weight[t + i];
  }

  // The baseline integrated out under independent noise: value, noise's gradient and the pull on the media.
  void integrate(V s2, V precision, V log_noise) {
    project(residual);
    for (int64_t k = 0; k < p.columns; ++k) store(p.projection + k * p.lanes, projection[k]);
    V value = {}, trace = {};
    p.dense ? shrink_densely(s2, value, trace) : shrink(s2, value, trace);
    // The coefficients' mean given the residual. What they leave of that is the pull, over the precision; its squares and
    // those of the coefficients, over their variances, are all squares there are, none of them a difference.
    for (int64_t k = 0; k < p.columns; ++k) solved[k] = projection[k] - s2 * shrunk[k], value += shrunk[k] * solved[k];
    leave(solved);
    const V squares = dot(residual, residual) * precision;
    for (int64_t t = first; t < end; ++t) pull[t] = residual[t] * precision * weight[t];
    const V spare = weeks - T(p.columns);
    value += squares + 2 * spare * log_noise + weeks * T(kLogTwoPi);
    store(p.value, T(-0.5) * value);
    store(p.by_log_noise, squares - s2 * trace - spare);
  }

  // The same under autocorrelated noise, and its correlation's gradient; in place of the projection the coefficients'
  // mean, at which the residual is formed before it is squared.
  void whiten(V s2, V precision, V log_noise) {
    const V* const root = whitening.root;
    whitening.prepare(first, last_week());
    whitening.whiten(residual);
    whitening.back(pull);
    project(pull);
    for (int64_t k = 0; k < p.columns; ++k) projection[k] *= root[k];
    V value = {}, trace = {}, squares, log_determinant, by_correlation;
    const auto entry = [&](int64_t i, int64_t j) { return whitening.gram(i, j); };
    solve(s2, entry, [&](V last, V own) { value += M::log(last), trace += own; });
    owe_determinant();
    for (int64_t k = 0; k < p.columns; ++k) {
      store(p.projection + k * p.lanes, shrunk[k]);
      value += shrunk[k] * shrunk[k];
      projection[k] = root[k] * shrunk[k];
    }
    leave(projection);
    whitening.whiten(residual);
    whitening.conclude(precision, squares, log_determinant, by_correlation);
    whitening.back(pull);
    for (int64_t t = first; t < last_week(); ++t) pull[t] *= precision * weight[t];
    const V spare = weeks - T(p.columns);
    value += squares - log_determinant + 2 * spare * log_noise + weeks * T(kLogTwoPi);
    store(p.value, T(-0.5) * value);
    store(p.by_log_noise, squares - s2 * trace - spare);
    store(p.by_correlation, T(-0.5) * by_correlation);
  }

  // The inverse of what was solved, entry by entry.
  void owe_determinant() {
    const int64_t n = p.columns;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        V sum = i == j ? pivot[i] : inverse[i * n + j] * pivot[i];
        for (int64_t k = i + 1; k < n; ++k) sum += inverse[k * n + i] * inverse[k * n + j] * pivot[k];
        whitening.owe(i, j, sum, i == j ? T(1) : T(2));
      }
    }
  }

  // The gradients that a channel passes on.
  template <int kArrays>
  void pull_on(int64_t c) const {
    const V* row = owns[c].shapes;
    V even[kArrays] = {}, odd[kArrays] = {};
    for (int64_t t = first; t < end; t += 2) {
      for (int j = 0; j < kArrays; ++j) {
        even[j] += pull[t] * row[t * kArrays + j];
        odd[j] += pull[t + 1] * row[(t + 1) * kArrays + j];
      }
    }
    for (int j = 0; j < kArrays; ++j) even[j] += odd[j];
    store(p.by_effect + c * p.lanes, even[0]);
    add_share(c, even);
    for (int j = 1; j < kArrays; ++j) even[j] = effect[c] * factors[c * arrays + j] * even[j];
    store_by_shape(c, even, p.by_shape);
  }

  const Problem<T>& p;
  Whitening<T> whitening;
  const int64_t arrays;  // of the channel with the most
  V* columns[1 + kMostParameters];  // media, and what saturation before carry-over makes of them
  V *window, *weight, *residual, *pull, *projection, *shrunk, *solved, *pivot, *factor, *inverse;
  V *effect, *share_slope, *shapes, *factors;
  Own* owns;  // [channel]
  I* counts;
  int64_t first = 0, end = 0;    // its weeks, a whole number of blocks
  V weeks = {};                  // in the likelihood, by weight
  V number = {};                 // of those that means are over
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
