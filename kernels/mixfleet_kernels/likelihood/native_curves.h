// The saturation families of saturation/xla.py: value and closed-form derivatives, with its conventions at zero.
//
// A curve takes the media times its `scale`. It gives its derivatives up to factors that are constant over the weeks,
// which the sums over weeks take up: df/dscaled = slope * slope_factor and df/dparameter[j] = by[j] * factor[j]. One of
// what it gives is slope times scaled media: the value, or the `elastic`-th derivative.
#pragma once

#include "native_math.h"

namespace mixfleet {
namespace {

constexpr int kValue = -1;

template <class T, int kCount>
struct Shape {
  using V = typename Math<T>::V;
  V value, slope, by[kCount == 0 ? 1 : kCount];
};

template <class T, int kCount>
struct Curve : Math<T> {
  using V = typename Math<T>::V;
  static constexpr int kParameters = kCount, kElastic = 0;
  static constexpr int kWeeks = 1;  // that go through it side by side
  V scale = Math<T>::splat(1), slope_factor = Math<T>::splat(1);
  V factor[kMostParameters] = {Math<T>::splat(1), Math<T>::splat(1)};
};

template <class T>
struct Logistic : Curve<T, 1> {
  using typename Curve<T, 1>::V;
  explicit Logistic(const V* parameter) {
    this->scale = parameter[0] / 2;
    this->factor[0] = 1 / parameter[0];
  }
  MIXFLEET_INLINE Shape<T, 1> operator()(V media) const {
    const V value = this->tanh(media);
    const V slope = 1 - value * value;
    return {value, slope, {media * slope}};
  }
};

template <class T>
struct Hill : Curve<T, 2> {
  using typename Curve<T, 2>::V;
  static constexpr int kElastic = 1, kWeeks = 8;
  explicit Hill(const V* parameter) {
    this->scale = 1 / parameter[1];
    this->slope_factor = parameter[0];
    this->factor[0] = Math<T>::splat(Math<T>::kLog2);
    this->factor[1] = -parameter[0] * this->scale;
  }
  MIXFLEET_INLINE V log_size(V media) const { return this->log2(this->at_least(this->abs(media), this->kTiny)); }
  MIXFLEET_INLINE V rest(V log_size) const { return this->exp2(-this->slope_factor, log_size); }  // size^-slope
  MIXFLEET_INLINE Shape<T, 2> shape(V media, V log_size, V rest) const {
    const V size = this->abs(media);
    const V value = size < this->kTiny ? V{} : this->inverse(1 + rest);
    const V left = rest * value, half = left * value, by_half = this->flip(half, media);
    const V slope = half * this->inverse(this->at_least(size, this->kTiny));
    return {this->flip(value, media), slope, {by_half * log_size, by_half}};
  }
  MIXFLEET_INLINE Shape<T, 2> operator()(V media) const {
    const V log = log_size(media);
    return shape(media, log, rest(log));
  }
};

template <class T>
struct Tanh : Curve<T, 1> {
  using typename Curve<T, 1>::V;
  explicit Tanh(const V* parameter) {
    this->scale = 1 / parameter[0];
    this->factor[0] = -this->scale;
  }
  MIXFLEET_INLINE Shape<T, 1> operator()(V media) const {
    const V value = this->tanh(media);
    const V slope = 1 - value * value;
    return {value, slope, {media * slope}};
  }
};

template <class T>
struct MichaelisMenten : Curve<T, 1> {
  using typename Curve<T, 1>::V;
  explicit MichaelisMenten(const V* parameter) {
    this->scale = 1 / parameter[0];
    this->factor[0] = -this->scale;
  }
  MIXFLEET_INLINE Shape<T, 1> operator()(V media) const {
    const V inverse = 1 / (1 + this->abs(media));
    const V value = media * inverse;
    return {value, inverse * inverse, {value * inverse}};
  }
};

template <class T>
struct Saturating : Curve<T, 1> {  // "exponential"
  using typename Curve<T, 1>::V;
  explicit Saturating(const V* parameter) {
    this->scale = parameter[0];
    this->factor[0] = 1 / parameter[0];
  }
  MIXFLEET_INLINE Shape<T, 1> operator()(V media) const {
    const auto left = this->exp(-this->abs(media));
    return {this->flip(-left.less_one, media), left.value, {media * left.value}};
  }
};

template <class T>
struct Root : Curve<T, 1> {
  using typename Curve<T, 1>::V;
  static constexpr int kElastic = kValue;
  explicit Root(const V* parameter) { this->slope_factor = parameter[0]; }
  MIXFLEET_INLINE Shape<T, 1> operator()(V media) const {
    const V size = this->abs(media);
    const auto zero = size < this->kTiny;
    const V safe = zero ? this->splat(1) : size;
    const V log_size = this->log(safe);
    const V value = zero ? V{} : this->exp(this->slope_factor * log_size).value;
    const V odd = this->flip(value, media);
    return {odd, value / safe, {odd * log_size}};
  }
};

template <class T>
struct Log : Curve<T, 1> {
  using typename Curve<T, 1>::V;
  explicit Log(const V* parameter) {
    this->scale = parameter[0];
    this->factor[0] = 1 / parameter[0];
  }
  MIXFLEET_INLINE Shape<T, 1> operator()(V media) const {
    const V grown = this->abs(media);
    const V total = 1 + grown;
    const V left = 1 / total;
    // What the sum lost of a small `grown` comes back, to first order.
    const V value = this->log(total) + (grown - (total - 1)) * left;
    return {this->flip(value, media), left, {media * left}};
  }
};

template <class T>
struct Straight : Curve<T, 0> {  // "none"
  using typename Curve<T, 0>::V;
  static constexpr int kElastic = kValue;
  explicit Straight(const V*) {}
  MIXFLEET_INLINE Shape<T, 0> operator()(V media) const { return {media, this->splat(1), {}}; }
};

// Hands what a curve makes of each of some weeks, at most kWeeks of it, to a visitor.
template <class Curve, class V, class Enter>
MIXFLEET_INLINE void each_shape(const Curve& curve, const V* media, int64_t weeks, Enter enter) {
  for (int64_t i = 0; i < weeks; ++i) enter(i, curve(media[i]));
}

// Stage by stage: a week's way through the Hill curve is so long that processors do not see the next one's beginning.
template <class T, class V, class Enter>
MIXFLEET_INLINE void each_shape(const Hill<T>& curve, const V* media, int64_t weeks, Enter enter) {
  V log_size[Hill<T>::kWeeks], rest[Hill<T>::kWeeks];
  for (int64_t i = 0; i < weeks; ++i) log_size[i] = curve.log_size(media[i]);
  for (int64_t i = 0; i < weeks; ++i) rest[i] = curve.rest(log_size[i]);
  for (int64_t i = 0; i < weeks; ++i) enter(i, curve.shape(media[i], log_size[i], rest[i]));
}

// Calls `visit` with the curve of a saturation, a place in channel_form.py's SATURATIONS.
template <class T, class Visit>
MIXFLEET_INLINE void with_curve(int64_t saturation, const typename Math<T>::V* parameter, Visit visit) {
  switch (saturation) {
    case 0: return visit(Logistic<T>(parameter));
    case 1: return visit(Hill<T>(parameter));
    case 2: return visit(Tanh<T>(parameter));
    case 3: return visit(MichaelisMenten<T>(parameter));
    case 4: return visit(Saturating<T>(parameter));
    case 5: return visit(Root<T>(parameter));
    case 6: return visit(Log<T>(parameter));
    default: return visit(Straight<T>(parameter));
  }
}

// Whether next to nothing may be a noticeable part of a response: the Hill curve and roots.
inline bool steep_at_zero(int64_t saturation) { return saturation == 1 || saturation == 5; }

// How many parameters it has.
inline int64_t curve_parameters(int64_t saturation) { return saturation == 1 ? 2 : saturation == 7 ? 0 : 1; }

}  // namespace
}  // namespace mixfleet
