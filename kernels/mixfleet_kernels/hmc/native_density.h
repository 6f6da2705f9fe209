// Log posterior density and gradient of a few units' lanes: coordinates, priors and the native likelihood.
//
// The same as models/log_density.py. Units come in groups whose chains fill whole vectors; a group's data are copied
// lane by lane once, and each evaluation stays in its own memory.
//
// To the likelihood a coefficient that is sampled is the effect of one more channel, behind the others: its column is what
// that one brings, neither carried over nor saturated, and it is not active, so that its strength is its effect.
#pragma once

#include <cstring>

#include "../evidence/native.h"
#include "native_arena.h"
#include "native_priors.h"

#define MIXFLEET_JOIN(name, isa) name##_##isa
#define MIXFLEET_ENTRY(name, isa) MIXFLEET_JOIN(name, isa)

extern "C" void MIXFLEET_ENTRY(mixfleet_likelihood_f32, MIXFLEET_ISA)(const mixfleet::Problem<float>*);
extern "C" void MIXFLEET_ENTRY(mixfleet_likelihood_f64, MIXFLEET_ISA)(const mixfleet::Problem<double>*);
extern "C" int64_t mixfleet_scratch_bytes(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);
extern "C" void MIXFLEET_ENTRY(mixfleet_evidence_f32, MIXFLEET_ISA)(const mixfleet::LiftTests<float>*);
extern "C" void MIXFLEET_ENTRY(mixfleet_evidence_f64, MIXFLEET_ISA)(const mixfleet::LiftTests<double>*);
extern "C" int64_t mixfleet_evidence_scratch_bytes(int64_t, int64_t, int64_t, int64_t);

namespace mixfleet {
namespace {

inline void pass(const Problem<float>& p) { MIXFLEET_ENTRY(mixfleet_likelihood_f32, MIXFLEET_ISA)(&p); }
inline void pass(const Problem<double>& p) { MIXFLEET_ENTRY(mixfleet_likelihood_f64, MIXFLEET_ISA)(&p); }
inline void pass(const LiftTests<float>& p) { MIXFLEET_ENTRY(mixfleet_evidence_f32, MIXFLEET_ISA)(&p); }
inline void pass(const LiftTests<double>& p) { MIXFLEET_ENTRY(mixfleet_evidence_f64, MIXFLEET_ISA)(&p); }

inline int64_t greatest_common_divisor(int64_t a, int64_t b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

// Units whose chains fill whole vectors.
template <class T>
int64_t group_units(int64_t chains) {
  return Math<T>::kLanes / greatest_common_divisor(chains, Math<T>::kLanes);
}

template <class T>
class Density {
  using M = Math<T>;

 public:
  using V = typename M::V;
  using I = typename M::I;
  static constexpr int kLanes = M::kLanes;

  // Of the units from `first` on; places beyond the last unit repeat it. What is in `scratch` no evaluation needs again.
  Density(const Model<T>& model, int64_t first, Arena& arena, Arena& scratch)
      : m(model), first_(first), all_(model.channels + model.sampled) {
    units = group_units<T>(m.chains);
    lanes = units * m.chains, vectors = lanes / kLanes;
    const auto rows = [&](int64_t count) { return arena.take<V>(count * vectors); };
    position = rows(m.dimension), gradient = rows(m.dimension), value = rows(1), extra = rows(m.extras());
    kpi_ = rows(m.weeks), weight_ = rows(m.weeks), variance_ = rows(m.variances()), active_ = rows(all_);
    hyper_ = rows(kHyperRows * m.prior_columns), measure_ = rows(3 * m.channels), unit_ = rows(m.channels);
    const int64_t curves = m.shapes * all_;
    parameter_ = rows(curves), slope_ = rows(curves), log_slope_ = rows(curves);
    by_shape_ = rows(curves), mean_by_shape_ = rows(curves);
    strength_ = rows(all_), log_strength_ = rows(m.channels), bent_ = rows(m.channels), bend_ = rows(m.channels);
    effect_ = rows(all_), by_effect_ = rows(all_);
    sampled_slope_ = rows(m.sampled), sampled_log_slope_ = rows(m.sampled);
    log_noise_ = rows(1), noise_slope_ = rows(1), noise_log_slope_ = rows(1), by_log_noise_ = rows(1), logs_ = rows(1);
    mask_ = arena.take<I>(vectors * units);
    media_ = arena.take<T>(m.weeks * all_ * units);
    basis_ = arena.take<T>(units * m.weeks * m.columns);
    scratch_ = scratch.take<char>(mixfleet_scratch_bytes(m.weeks, all_, m.columns, m.window, 1 + m.shapes, m.gaps));
    if (m.gaps > 0) {
      correlation_ = rows(1), correlation_slope_ = rows(1), correlation_log_slope_ = rows(1), by_correlation_ = rows(1);
      gap_length_ = arena.take<T>(m.gaps * units), gap_spans_ = arena.take<T>(m.weeks * m.gaps * units);
      gap_gram_ = arena.take<T>(gram_size() * units);
    }
    if (m.rows == 0) return;
    lift_media_ = arena.take<T>(m.virtual_weeks * 2 * m.rows * units);
    lift_weight_ = arena.take<T>(m.lifted * m.rows * units);
    lift_channel_ = arena.take<T>(m.rows * m.channels * units);
    lift_test_ = arena.take<T>(m.rows * m.rows * units), lift_estimate_ = arena.take<T>(2 * m.rows * units);
    lift_scratch_ = scratch.take<char>(mixfleet_evidence_scratch_bytes(m.lifted, m.rows, m.window, 1 + m.shapes));
  }

  // Copies the units' data into the lanes.
  void load() {
    if (m.by_lane) read(m.kpi, m.weeks, kpi_), read(m.variance, m.variances(), variance_);
    else spread(m.kpi, m.weeks, kpi_), spread(m.variance, m.columns, variance_);
    spread(m.weight, m.weeks, weight_);
    spread(m.active, m.channels, active_), spread(m.hyper, kHyperRows * m.prior_columns, hyper_);
    spread(m.measure, 3 * m.channels, measure_), spread(m.strength_unit, m.channels, unit_);
    // Where a channel has fewer parameters than another, what stands there is not looked at.
    for (int64_t i = 0; i < m.shapes * all_ * vectors; ++i) parameter_[i] = M::splat(1);
    for (int64_t i = m.channels * vectors; i < all_ * vectors; ++i) active_[i] = V{};
    const int64_t weeks = m.weeks * m.columns;
    for (int64_t u = 0; u < units; ++u) {
      std::memcpy(basis_ + u * weeks, m.basis + unit(u) * weeks, weeks * sizeof(T));
    }
    for (int64_t t = 0; t < m.weeks; ++t) copy_media(t);
    set_problem();
    if (m.rows > 0) set_tests();
  }

  // Value, gradient and extra at the position.
  void evaluate() {
    for (int64_t v = 0; v < vectors; ++v) constrain(v);
    pass(problem_);
    if (m.rows > 0) pass(tests_);
    for (int64_t v = 0; v < vectors; ++v) add_priors(v);
  }

  // Mean and standard deviation of a coordinate whose prior is normal on the unconstrained scale.
  void normal(int64_t row, int64_t v, V& mean, V& sd) const {
    mean = hyper_[row * vectors + v], sd = hyper_[(m.prior_columns + row) * vectors + v];
  }

  // The unit at a place of the group.
  int64_t unit(int64_t place) const { return first_ + place < m.units ? first_ + place : m.units - 1; }
  // How many of the places hold units of their own.
  int64_t held() const { return m.units - first_ < units ? m.units - first_ : units; }

  // A row of the lanes of all units, to or from the group's own.
  void read(const T* all, int64_t rows, V* own) const {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t u = 0; u < units; ++u) {
        std::memcpy(numbers(own) + r * lanes + u * m.chains, all + r * m.lanes() + unit(u) * m.chains, m.chains * sizeof(T));
      }
    }
  }
  void write(const V* own, int64_t rows, T* all) const {
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(all + r * m.lanes() + first_ * m.chains, numbers(own) + r * lanes, held() * m.chains * sizeof(T));
    }
  }

  // One value per unit, for each of its lanes.
  void spread(const T* by_unit, int64_t rows, V* own) const {
    T* lane = numbers(own);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t u = 0; u < units; ++u, lane += m.chains) {
        const T value = by_unit[r * m.units + unit(u)];
        for (int64_t c = 0; c < m.chains; ++c) lane[c] = value;
      }
    }
  }

  // Finds out which lanes are whose.
  void mark() {
    for (int64_t v = 0; v < vectors; ++v) {
      for (int64_t u = 0; u < units; ++u) {
        for (int i = 0; i < kLanes; ++i) mask_[v * units + u][i] = (v * kLanes + i) / m.chains == u ? -1 : 0;
      }
    }
  }
  // The lanes of a vector that are a unit's.
  I own(int64_t v, int64_t u) const { return mask_[v * units + u]; }

  // Each unit's transposed matrix times its lanes; of a triangle the zeros are left out.
  enum Triangle { kFull, kUpper, kLower };
  void times(const T* matrices, Triangle triangle, const V* in, V* out) const {
    constexpr int64_t kRows = 8;  // sums side by side, in registers
    const int64_t d = m.dimension;
    for (int64_t u = 0; u < units; ++u) {
      const T* matrix = matrices + unit(u) * d * d;
      const int64_t first = u * m.chains / M::kLanes, last = ((u + 1) * m.chains - 1) / M::kLanes;
      for (int64_t v = first; v <= last; ++v) {
        const I mine = own(v, u);
        for (int64_t i = 0; i < d; i += kRows) {
          const int64_t count = d - i < kRows ? d - i : kRows;
          const int64_t begin = triangle == kLower ? i : 0, end = triangle == kUpper ? i + count : d;
          V sum[kRows] = {};
          for (int64_t j = begin; j < end; ++j) {
            const V x = in[j * vectors + v];
            const T* row = matrix + j * d + i;
            if (count == kRows) {
              for (int64_t k = 0; k < kRows; ++k) sum[k] += row[k] * x;
            } else {
              for (int64_t k = 0; k < count; ++k) sum[k] += row[k] * x;
            }
          }
          for (int64_t k = 0; k < count; ++k) {
            V& made = out[(i + k) * vectors + v];
            made = mine ? sum[k] : made;
          }
        }
      }
    }
  }

  static T* numbers(V* own) { return reinterpret_cast<T*>(own); }
  static const T* numbers(const V* own) { return reinterpret_cast<const T*>(own); }

  const Model<T>& m;
  int64_t units, lanes, vectors;
  V *position, *gradient, *value, *extra;  // [row][vector]

 private:
  void set_problem() {
    Problem<T>& p = problem_ = {};
    p.weeks = m.weeks, p.channels = all_, p.lanes = lanes, p.units = units, p.columns = m.columns;
    p.window = m.window, p.begin = 0, p.end = lanes, p.tangents = m.tangents, p.parameters = m.shapes - m.tangents;
    p.forms = m.forms, p.strength_is_mean = m.strength_is_mean, p.dense = m.dense;
    p.unit_media = media_, p.basis = basis_;
    p.kpi = numbers(kpi_), p.weight = numbers(weight_), p.variance = numbers(variance_), p.active = numbers(active_);
    p.strength = numbers(strength_), p.log_noise = numbers(log_noise_);
    set_parameters(p.adstock, p.parameter);
    p.value = numbers(value), p.by_effect = numbers(by_effect_), p.by_log_noise = numbers(by_log_noise_);
    // A vector's projection is written after its mean responses, and over those of sampled coefficients.
    p.effect = numbers(effect_), p.mean_response = numbers(extra), p.projection = numbers(extra) + m.channels * lanes;
    for (int64_t j = 0; j < m.shapes; ++j) {
      p.by_shape[j] = numbers(by_shape_) + j * all_ * lanes;
      p.mean_by_shape[j] = numbers(mean_by_shape_) + j * all_ * lanes;
    }
    p.scratch = reinterpret_cast<T*>(scratch_);
    if ((p.gaps = m.gaps) == 0) return;
    copy(m.gap_length, m.gaps, gap_length_), copy(m.gap_spans, m.weeks * m.gaps, gap_spans_);
    copy(m.gap_gram, gram_size(), gap_gram_);
    p.gap_length = gap_length_, p.gap_spans = gap_spans_, p.gap_gram = gap_gram_;
    p.correlation = numbers(correlation_), p.by_correlation = numbers(by_correlation_);
  }

  void set_parameters(const T** adstock, const T** saturation) const {
    for (int64_t j = 0; j < m.shapes; ++j) {
      (j < m.tangents ? adstock[j] : saturation[j - m.tangents]) = numbers(parameter_) + j * all_ * lanes;
    }
  }

  int64_t gram_size() const { return 3 * m.gaps * m.columns * m.columns; }

  // The group's units of values that each unit has once.
  void copy(const T* from, int64_t count, T* to) const {
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t u = 0; u < units; ++u) to[i * units + u] = from[i * m.units + unit(u)];
    }
  }

  // A week's media, and what the sampled coefficients' columns are in it.
  void copy_media(int64_t t) {
    T* const to = media_ + t * all_ * units;
    copy(m.media + t * m.channels * m.units, m.channels, to);
    for (int64_t j = 0; j < m.sampled; ++j) {
      for (int64_t u = 0; u < units; ++u) {
        T sum = 0;
        for (int64_t k = 0; k < m.columns; ++k) {
          sum += basis_[(u * m.weeks + t) * m.columns + k] * m.along[(k * m.sampled + j) * m.units + unit(u)];
        }
        to[(m.channels + j) * units + u] = sum;
      }
    }
  }

  // What lift tests say is added to what the series says.
  void set_tests() {
    copy(m.lift_media, m.virtual_weeks * 2 * m.rows, lift_media_), copy(m.lift_weight, m.lifted * m.rows, lift_weight_);
    copy(m.lift_channel, m.rows * m.channels, lift_channel_), copy(m.lift_test, m.rows * m.rows, lift_test_);
    copy(m.lift_estimate, 2 * m.rows, lift_estimate_);
    LiftTests<T>& t = tests_ = {};
    t.virtual_weeks = m.virtual_weeks, t.lifted = m.lifted, t.rows = m.rows;
    t.channels = m.channels, t.lanes = lanes, t.units = units;
    t.lags = m.window, t.tangents = m.tangents, t.parameters = m.shapes - m.tangents, t.forms = m.forms;
    t.media = lift_media_, t.weight = lift_weight_;
    t.channel = lift_channel_, t.test = lift_test_, t.estimate = lift_estimate_;
    t.effect = numbers(effect_);
    set_parameters(t.adstock, t.parameter);
    t.value = numbers(value), t.by_effect = numbers(by_effect_), t.scratch = reinterpret_cast<T*>(lift_scratch_);
    for (int64_t j = 0; j < m.shapes; ++j) t.by_shape[j] = numbers(by_shape_) + j * all_ * lanes;
  }

  // A prior's rows of data.
  void data(int64_t column, int64_t v, V* h) const {
    for (int r = 0; r < kHyperRows; ++r) h[r] = hyper_[(r * m.prior_columns + column) * vectors + v];
  }

  void constrain(int64_t v) {
    V h[kHyperRows], logs = {};
    for (int64_t j = 0; j < m.shapes; ++j) {
      for (int64_t c = 0; c < m.channels; ++c) {
        const int64_t i = j * m.channels + c, row = m.shape_row[i], family = m.shape_family[i];
        const int64_t at = (j * all_ + c) * vectors + v;
        if (row < 0) continue;
        data(row, v, h);
        const bool fixed = family == kFixed;
        const Prior<T> prior(family, fixed ? V{} : position[row * vectors + v], h);
        parameter_[at] = prior.value, slope_[at] = prior.slope, log_slope_[at] = prior.log_slope;
        logs += prior.log_prob;
      }
    }
    for (int64_t c = 0; c < m.channels; ++c) {
      const int64_t at = c * vectors + v;
      const Strength<T> strength(m.strength_family[c], position[(m.effect_first + c) * vectors + v]);
      log_strength_[at] = strength.log_value + unit_[at];
      strength_[at] = M::exp(log_strength_[at]).value;
      bent_[at] = strength.slope, bend_[at] = strength.jacobian_slope;
      logs += strength.jacobian;
    }
    for (int64_t j = 0; j < m.sampled; ++j) {
      data(m.sampled_row[j], v, h);
      const Prior<T> prior(m.sampled_family[j], position[m.sampled_row[j] * vectors + v], h);
      strength_[(m.channels + j) * vectors + v] = prior.value;
      sampled_slope_[j * vectors + v] = prior.slope, sampled_log_slope_[j * vectors + v] = prior.log_slope;
      logs += prior.log_prob;
    }
    data(m.noise_first, v, h);
    const Prior<T> noise(m.noise_family, position[m.noise_first * vectors + v], h);
    log_noise_[v] = M::log(noise.value);
    noise_slope_[v] = noise.slope / noise.value, noise_log_slope_[v] = noise.log_slope;
    logs_[v] = logs + noise.log_prob;
    if (m.gaps == 0) return;
    data(m.correlation_first, v, h);
    const Prior<T> correlation(m.correlation_family, position[m.correlation_first * vectors + v], h);
    correlation_[v] = correlation.value, correlation_slope_[v] = correlation.slope;
    correlation_log_slope_[v] = correlation.log_slope, logs_[v] += correlation.log_prob;
  }

  void add_priors(int64_t v) {
    V h[kHyperRows], logs = logs_[v];
    for (int64_t c = 0; c < m.channels; ++c) {
      const int64_t at = c * vectors + v;
      const V mean = extra[at], log_mean = M::log(mean);
      const V log_effect = m.strength_is_mean ? log_strength_[at] - log_mean : log_strength_[at];
      V by_log_effect = M::splat(1), by_mean = {}, log_measure = log_effect;
      if (m.measured) {
        by_log_effect = measure_[at], by_mean = measure_[m.channels * vectors + at];
        log_measure = by_log_effect * log_effect + by_mean * log_mean + measure_[2 * m.channels * vectors + at];
      }
      data(m.effect_first + c, v, h);
      const Prior<T> prior(m.strength_family[c], log_measure, h);
      logs += prior.log_prob;
      // d/d log(effect) of everything; where the strength is the mean contribution, each parameter of the curve moves
      // the effect against the mean response.
      const V total = by_effect_[at] * effect_[at] + by_log_effect * prior.log_slope;
      const V through_mean = ((m.strength_is_mean ? total : V{}) - by_mean * prior.log_slope) / mean * active_[at];
      for (int64_t j = 0; j < m.shapes; ++j) {
        const int64_t own = j * m.channels + c, row = m.shape_row[own], i = (j * all_ + c) * vectors + v;
        if (row < 0 || m.shape_family[own] == kFixed) continue;
        gradient[row * vectors + v] = (by_shape_[i] - through_mean * mean_by_shape_[i]) * slope_[i] + log_slope_[i];
      }
      gradient[(m.effect_first + c) * vectors + v] = total * bent_[at] + bend_[at];
    }
    for (int64_t j = 0; j < m.sampled; ++j) {
      const int64_t at = (m.channels + j) * vectors + v, own = j * vectors + v;
      gradient[m.sampled_row[j] * vectors + v] = by_effect_[at] * sampled_slope_[own] + sampled_log_slope_[own];
      extra[(m.extras() - m.sampled + j) * vectors + v] = effect_[at];
    }
    gradient[m.noise_first * vectors + v] = by_log_noise_[v] * noise_slope_[v] + noise_log_slope_[v];
    if (m.gaps > 0) {
      V& by = gradient[m.correlation_first * vectors + v];
      by = by_correlation_[v] * correlation_slope_[v] + correlation_log_slope_[v];
    }
    value[v] += logs;
  }

  const int64_t first_, all_;
  V *kpi_, *weight_, *variance_, *active_, *hyper_, *measure_, *unit_;
  V *parameter_, *slope_, *log_slope_, *by_shape_, *mean_by_shape_;
  V *strength_, *log_strength_, *bent_, *bend_, *effect_, *by_effect_, *sampled_slope_, *sampled_log_slope_;
  V *log_noise_, *noise_slope_, *noise_log_slope_, *by_log_noise_, *logs_;
  V *correlation_, *correlation_slope_, *correlation_log_slope_, *by_correlation_;
  I* mask_;  // [vector][unit]
  T *media_, *basis_, *gap_length_, *gap_spans_, *gap_gram_;
  char* scratch_;
  Problem<T> problem_;
  T *lift_media_, *lift_weight_, *lift_channel_, *lift_test_, *lift_estimate_;
  char* lift_scratch_;
  LiftTests<T> tests_;
};

}  // namespace
}  // namespace mixfleet
