// The pass itself: the responses to two paths of media, the weighted difference of the two with derivatives, and what a
// test of it says.
//
// Compiled once per instruction set, which MIXFLEET_ISA names; native.cpp picks one at run time. Weeks without a weight
// are not worked out: each row ends with the last one that some unit of the vector has a weight in.

#include <cstdint>
#include <cstring>

#include "native.h"

#include "../likelihood/native_carry.h"
#include "../likelihood/native_curves.h"
#include "../likelihood/native_vector.h"
#include "../likelihood/native_windows.h"

namespace mixfleet {
namespace {

template <class T>
class Evidence : Vector<T> {
  using M = Math<T>;
  using V = typename M::V;
  using Vector<T>::lane, Vector<T>::held, Vector<T>::unit, Vector<T>::units, Vector<T>::load, Vector<T>::store;

 public:
  explicit Evidence(const LiftTests<T>& tests) : p(tests), arrays(1 + p.tangents + p.parameters) {
    const uintptr_t start = (reinterpret_cast<uintptr_t>(p.scratch) + sizeof(V) - 1) & ~uintptr_t(sizeof(V) - 1);
    V* free = reinterpret_cast<V*>(start);
    const auto take = [&free](int64_t count) { return (free += count) - count; };
    window = take((p.lags + 1) * 4);
    for (V*& media : columns) media = take(p.lags + weeks());
    weight = take(weeks());
    response = take(weeks() * arrays);
    lift = take(p.rows * arrays);
    error = take(p.rows);
    channel = reinterpret_cast<int64_t*>(take(2 * p.rows));
    test = reinterpret_cast<int64_t*>(take(2 * p.rows));
  }

  void run() {
    for (int64_t at = 0; at < p.lanes; at += M::kLanes) {
      this->take(at, p.lanes, p.lanes / p.units);
      find_rows();
      for (int64_t r = 0; r < p.rows; ++r) add_row(r);
      finish();
    }
  }

 private:
  // With room for a last block of weeks.
  int64_t weeks() const { return p.lifted + kBlock; }

  // Each unit's channel and test of every row; rows of no test have no lift, and any will do for them.
  void find_rows() {
    for (int64_t r = 0; r < p.rows; ++r) {
      for (int64_t u = 0; u < units; ++u) {
        const auto place = [&](const T* ones, int64_t count, int64_t stride) {
          int64_t found = 0;
          for (int64_t i = 0; i < count; ++i) found = ones[i * stride * p.units + unit + u] > 0 ? i : found;
          return found;
        };
        channel[r * M::kLanes + u] = place(p.channel + r * p.channels * p.units, p.channels, 1);
        test[r * M::kLanes + u] = place(p.test + r * p.units, p.rows, p.rows);
      }
    }
  }

  int64_t channel_of(int64_t r, int64_t i) const { return channel[r * M::kLanes + this->own(i)]; }

  // What the row's channel has.
  V load_row(const T* rows, int64_t r) const {
    V v = {};
    for (int64_t i = 0; i < M::kLanes; ++i) v[i] = rows[channel_of(r, i) * p.lanes + this->place(i)];
    return v;
  }

  void add_to_row(T* rows, int64_t r, V v) const {
    for (int64_t i = 0; i < held; ++i) rows[channel_of(r, i) * p.lanes + lane + i] += v[i];
  }

  V estimate(int64_t which, int64_t t) const {
    return this->template spread<0>(p.estimate + (which * p.rows + t) * p.units + unit, 1);
  }

  void add_row(int64_t r) {
    const T* own = p.weight + r * p.units + unit;
    last = 0;
    for (int64_t k = 0; k < p.lifted; ++k) {
      for (int64_t u = 0; u < units; ++u) last = own[k * p.rows * p.units + u] != 0 ? k + 1 : last;
    }
    if (last == 0) {
      for (int64_t j = 0; j < arrays; ++j) lift[r * arrays + j] = V{};
      return;
    }
    for (int64_t k = 0; k < last; ++k) weight[k] = this->template spread<0>(own + k * p.rows * p.units, 1);
    for (int64_t k = last; k < last + kBlock; ++k) weight[k] = V{};
    V parameter[kMostParameters] = {};
    for (int64_t j = 0; j < p.parameters; ++j) parameter[j] = load_row(p.parameter[j], r);
    // The units' channels may differ in form: the row is worked out for each form, and lanes take their own.
    for (int64_t u = 0; u < units; ++u) {
      const Form& form = form_of(r, u);
      bool known = false;
      for (int64_t before = 0; before < u; ++before) known |= same(form_of(r, before), form);
      if (known) continue;
      for (int64_t i = 0; i < M::kLanes; ++i) own_form[i] = same(form_of(r, this->own(i)), form) ? -1 : 0;
      with_curve<T>(form.saturation, parameter, [&](const auto& curve) { respond(r, form, curve); });
    }
  }

  const Form& form_of(int64_t r, int64_t u) const { return p.forms[channel[r * M::kLanes + u]]; }

  static bool same(const Form& a, const Form& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

  void finish() {
    for (int64_t t = 0; t < p.rows; ++t) error[t] = -estimate(0, t);
    for (int64_t r = 0; r < p.rows; ++r) {
      const V brought = load_row(p.effect, r) * lift[r * arrays];
      for (int64_t i = 0; i < M::kLanes; ++i) error[test[r * M::kLanes + this->own(i)]][i] += brought[i];
    }
    V value = load(p.value);
    for (int64_t t = 0; t < p.rows; ++t) value += estimate(1, t) - T(0.5) * error[t] * error[t];
    store(p.value, value);
    for (int64_t r = 0; r < p.rows; ++r) {
      V pull = {};
      for (int64_t i = 0; i < M::kLanes; ++i) pull[i] = -error[test[r * M::kLanes + this->own(i)]][i];
      const V* of_row = lift + r * arrays;
      const V pulled = pull * load_row(p.effect, r);
      add_to_row(p.by_effect, r, pull * of_row[0]);
      for (int64_t j = 1; j < arrays; ++j) add_to_row(p.by_shape[j - 1], r, pulled * of_row[j]);
    }
  }

  template <class Curve>
  void respond(int64_t r, const Form& form, const Curve& curve) {
    const int64_t lags = form.window;
    if (recursive(form)) {
      const V decay = load_row(p.adstock[0], r);
      V total = M::splat(1), by_decay = V{};
      for (int64_t l = 1; form.normalised && l < lags; ++l) by_decay = total + decay * by_decay, total = 1 + decay * total;
      scale = curve.scale / total, share_slope = -by_decay / total;
      V *slope = window + lags + 1, *end = slope + lags + 1, *end_by = end + lags + 1;
      Recursion<T> carry{decay, lags, window, slope, end, end_by};
      carry.fill();
      return add_lift<1>(r, form, curve, carry);
    }
    scale = curve.scale;
    const int64_t tangents = form.adstock == kGiven ? p.tangents : window_parameters(form);
    form.adstock == kGiven ? load_window(r) : make_window(r, form, tangents);
    switch (tangents) {
      case 0: return add_lift<0>(r, form, curve, Window<T, 0>{window, lags});
      case 1: return add_lift<1>(r, form, curve, Window<T, 1>{window, lags});
      default: return add_lift<2>(r, form, curve, Window<T, 2>{window, lags});
    }
  }

  void load_window(int64_t r) {
    for (int64_t l = 0; l < p.lags; ++l) {
      const int64_t place = l * p.channels * p.lanes;
      window[l] = load_row(p.weights + place, r);
      for (int64_t j = 0; j < p.tangents; ++j) window[(1 + j) * p.lags + l] = load_row(p.tangent[j] + place, r);
    }
  }

  void make_window(int64_t r, const Form& form, int64_t tangents) {
    V parameter[kMostParameters] = {};
    for (int64_t j = 0; j < tangents; ++j) parameter[j] = load_row(p.adstock[j], r);
    WindowWeights<T>::fill(form, parameter, window);
  }

  // Media of a path from the first week that carries over into the measured ones, which begin at `lags`.
  void read_media(int64_t path, int64_t lags) {
    const int64_t first = p.virtual_weeks - p.lifted - lags;
    V* const column = columns[0];
    column[0] = V{};
    for (int64_t i = 1; i < lags + last; ++i) {
      column[i] = scale * this->template spread<0>(p.media + ((first + i) * 2 * p.rows + path) * p.units + unit, 1);
    }
    for (V* media : columns) {
      for (int64_t i = lags + last; i < lags + last + kBlock; ++i) media[i] = V{};
    }
  }

  template <int kTangents, class Curve, class Carry>
  void add_lift(int64_t r, const Form& form, const Curve curve, const Carry carry) {
    constexpr int kArrays = 1 + kTangents + Curve::kParameters;
    V* const out = response;
    const V* const counted = weight;
    const int64_t before = form.window;
    V sum[kArrays] = {};
    const auto each = [&](int64_t path, auto enter) MIXFLEET_INLINED {
      read_media(path, before);
      if (!form.carried_first) saturate(columns, 0, before + last, curve);
      const int64_t end = before + (last + kBlock - 1) / kBlock * kBlock;
      const auto one = [&](int64_t t, int j, V made) MIXFLEET_INLINED { enter(t - before, j, made); };
      if (!form.carried_first) return each_carried<kTangents, Curve::kParameters>(columns, before, end, carry, one);
      each_saturated<kTangents>(columns[0], before, end, curve, carry, [&](int64_t t, const V* row) MIXFLEET_INLINED {
        for (int j = 0; j < kArrays; ++j) one(t, j, row[j]);
      });
    };
    each(r, [&](int64_t k, int j, V value) MIXFLEET_INLINED { out[k * kArrays + j] = value; });
    each(p.rows + r, [&](int64_t k, int j, V value) MIXFLEET_INLINED {
      sum[j] += counted[k] * (out[k * kArrays + j] - value);
    });
    // What a recursion carries is divided by the sum of the window's weights, whose derivative is owed yet.
    if (recursive(form)) sum[1] += share_slope * sum[Curve::kElastic == kValue ? 0 : 1 + kTangents + Curve::kElastic];
    V made[1 + kMostShapes] = {sum[0]};
    for (int j = 0; j < kTangents; ++j) made[1 + j] = form.carried_first ? curve.slope_factor * sum[1 + j] : sum[1 + j];
    for (int j = 0; j < Curve::kParameters; ++j) made[1 + p.tangents + j] = curve.factor[j] * sum[1 + kTangents + j];
    for (int64_t j = 0; j < arrays; ++j) {
      V& own = lift[r * arrays + j];
      own = own_form ? made[j] : own;
    }
  }

  const LiftTests<T>& p;
  const int64_t arrays;  // value, by adstock, by saturation parameters: of the channel with the most
  V* columns[1 + kMostParameters];  // media, and what saturation before carry-over makes of them
  V *window, *weight, *response;
  V *lift, *error;  // [row][array]; [test], in its standard deviations
  int64_t *channel, *test;  // [row][unit of the vector]
  V scale = {}, share_slope = {};
  typename M::I own_form = {};  // lanes whose channel has the form that is worked out
  int64_t last = 0;  // measured weeks of this row
};

}  // namespace
}  // namespace mixfleet

#define MIXFLEET_JOIN(name, isa) name##_##isa
#define MIXFLEET_ENTRY(name, isa) MIXFLEET_JOIN(name, isa)

extern "C" void MIXFLEET_ENTRY(mixfleet_evidence_f32, MIXFLEET_ISA)(const mixfleet::LiftTests<float>* tests) {
  mixfleet::Evidence<float>(*tests).run();
}

extern "C" void MIXFLEET_ENTRY(mixfleet_evidence_f64, MIXFLEET_ISA)(const mixfleet::LiftTests<double>* tests) {
  mixfleet::Evidence<double>(*tests).run();
}
