// The saturation families of saturation/xla.py: value and closed-form derivatives, with its conventions at zero.
//
// A curve gives its derivatives up to factors that are constant over the weeks, which the sums over weeks take up:
// df/dmedia = slope * slope_factor and df/dparameter[j] = by[j] * factor[j].
#pragma once

#include "native_math.h"

namespace mixfleet {
namespace {

template <class T, int kCount>
struct Shape {
  using V = typename Math<T>::V;
  V value, slope, by[kCount == 0 ? 1 : kCount];
};

template <class T, int kCount>
struct Curve : Math<T> {
  using V = typename Math<T>::V;
  static constexpr int kParameters = kCount;
  V slope_factor = Math<T>::splat(1);
  V factor[kMostParameters] = {Math<T>::splat(1), Math<T>::splat(1)};
};

template <class T>
struct Logistic : Curve<T, 1> {
  using typename Curve<T, 1>::V;
  explicit Logistic(const V* parameter) {
    this->slope_factor = parameter[0] / 2;
    this->factor[0] = this->splat(T(0.5));
  }
  MIXFLEET_INLINE Shape<T, 1> operator()(V media) const {
    const V value = this->tanh(this->slope_factor * media);
    const V slope = 1 - value * value;
    return {value, slope, {media * slope}};
  }
};

template <class T>
struct Hill : Curve<T, 2> {
  using typename Curve<T, 2>::V;
  V slope, half;
  explicit Hill(const V* parameter) : slope(parameter[0]), half(parameter[1]) {
    this->slope_factor = slope;
    this->factor[1] = -slope / half;
  }
  MIXFLEET_INLINE Shape<T, 2> operator()(V media) const {
    const V size = this->abs(media);
    const auto zero = size < this->kTiny;
    const V log_ratio = this->log((zero ? half : size) / half);
    const V z = slope * log_ratio;
    const V tail = this->exp(-this->abs(z)).value;
    const V larger = 1 / (1 + tail);
    const V smaller = tail * larger;
    const V value = zero ? V{} : z < 0 ? smaller : larger;
    const V spread = zero ? V{} : larger * smaller;
    const V by_half = this->flip(spread, media);
    return {this->flip(value, media), spread / (zero ? this->splat(1) : size), {by_half * log_ratio, by_half}};
  }
};

template <class T>
struct Tanh : Curve<T, 1> {
  using typename Curve<T, 1>::V;
  explicit Tanh(const V* parameter) {
    this->slope_factor = 1 / parameter[0];
    this->factor[0] = -this->slope_factor;
  }
  MIXFLEET_INLINE Shape<T, 1> operator()(V media) const {
    const V ratio = media * this->slope_factor;
    const V value = this->tanh(ratio);
    const V slope = 1 - value * value;
    return {value, slope, {ratio * slope}};
  }
};

template <class T>
struct MichaelisMenten : Curve<T, 1> {
  using typename Curve<T, 1>::V;
  V half;
  explicit MichaelisMenten(const V* parameter) : half(parameter[0]) { this->factor[0] = this->splat(-1); }
  MIXFLEET_INLINE Shape<T, 1> operator()(V media) const {
    const V inverse = 1 / (half + this->abs(media));
    const V value = media * inverse;
    // One product after the other: the square of the inverse could leave float32.
    return {value, half * inverse * inverse, {value * inverse}};
  }
};

template <class T>
struct Saturating : Curve<T, 1> {  // "exponential"
  using typename Curve<T, 1>::V;
  explicit Saturating(const V* parameter) { this->slope_factor = parameter[0]; }
  MIXFLEET_INLINE Shape<T, 1> operator()(V media) const {
    const auto left = this->exp(-this->slope_factor * this->abs(media));
    return {this->flip(-left.less_one, media), left.value, {media * left.value}};
  }
};

template <class T>
struct Root : Curve<T, 1> {
  using typename Curve<T, 1>::V;
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
  explicit Log(const V* parameter) { this->slope_factor = parameter[0]; }
  MIXFLEET_INLINE Shape<T, 1> operator()(V media) const {
    const V grown = this->slope_factor * this->abs(media);
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
  explicit Straight(const V*) {}
  MIXFLEET_INLINE Shape<T, 0> operator()(V media) const { return {media, this->splat(1), {}}; }
};

}  // namespace
}  // namespace mixfleet
