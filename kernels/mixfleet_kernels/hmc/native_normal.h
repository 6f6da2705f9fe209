// The standard normal distribution of vectors of lanes: its tails, hazards, and the ramp of models/priors/bijectors.py.
#pragma once

#include <cmath>

#include "../likelihood/native_math.h"

namespace mixfleet {
namespace {

constexpr double kLogRootTwoPi = 0.91893853320467274178;
constexpr double kRootTwoPi = 2.50662827463100050242;

template <class T>
struct Normal {
  using M = Math<T>;
  using V = typename M::V;
  V lower, log_lower, log_upper, density;
  V hazard_lower, hazard_upper;  // density over lower and upper tail

  // Below it a continued fraction gives the tail.
  static constexpr T kFar = -4;
  static constexpr int kTerms = M::kSingle ? 8 : 24;

  explicit Normal(V u) {
    const V size = M::abs(u), exponent = T(-0.5) * size * size;
    density = M::exp(exponent - T(kLogRootTwoPi)).value;
    V tail, log_tail, hazard_tail;
    if constexpr (M::kSingle) {
      // Chebyshev approximation of the scaled complementary error function, 1.2e-7 relative: Press, Teukolsky,
      // Vetterling and Flannery, Numerical Recipes, section 6.2.
      const V t = 2 / (2 + size * T(0.70710678118654752440));
      V p = t * 0.17087277f - 0.82215223f;
      p = p * t + 1.48851587f;
      p = p * t - 1.13520398f;
      p = p * t + 0.27886807f;
      p = p * t - 0.18628806f;
      p = p * t + 0.09678418f;
      p = p * t + 0.37409196f;
      p = p * t + 1.00002368f;
      p = p * t - 1.26551223f;
      const V half = T(0.5) * t;
      tail = half * M::exp(p + exponent).value;
      log_tail = M::log(half) + p + exponent;
      hazard_tail = 1 / (half * M::exp(p).value * T(kRootTwoPi));
    } else {
      for (int i = 0; i < M::kLanes; ++i) tail[i] = 0.5 * std::erfc(size[i] * 0.70710678118654752440);
      log_tail = M::log(M::at_least(tail, M::kTiny));
      if (any_beyond(size)) {
        const V fraction = continued(size);
        const V far = exponent - T(kLogRootTwoPi) + M::log(fraction) - M::log(1 + held(size) * fraction);
        log_tail = size > -kFar ? far : log_tail;
      }
      hazard_tail = M::exp(exponent - T(kLogRootTwoPi) - log_tail).value;
    }
    const V body = 1 - tail;
    const V log_body = tail < T(1e-3) ? -tail * (1 + tail * (T(0.5) + tail * (T(1) / 3 + tail * (T(0.25) + tail * T(0.2))))) : M::log(body);
    const V hazard_body = density / body;
    const auto below = u < 0;
    lower = below ? tail : body;
    log_lower = below ? log_tail : log_body;
    log_upper = below ? log_body : log_tail;
    hazard_lower = below ? hazard_tail : hazard_body;
    hazard_upper = below ? hazard_body : hazard_tail;
  }

  // Log of the ramp u lower(u) + density(u), and of its slope, lower over ramp.
  MIXFLEET_INLINE void ramp(V u, V& value, V& log_slope) const {
    value = M::log(M::at_least(u * lower + density, M::kTiny));
    log_slope = log_lower - value;
    if (any_beyond(-u)) {
      const V x = held(-u), fraction = continued(-u);
      const V far = T(-0.5) * x * x - T(kLogRootTwoPi) - M::log(1 + x * fraction);
      const auto beyond = u < kFar;
      value = beyond ? far : value;
      log_slope = beyond ? M::log(fraction) : log_slope;
    }
  }

 private:
  static MIXFLEET_INLINE V held(V x) { return M::at_least(x, -kFar); }

  static MIXFLEET_INLINE bool any_beyond(V x) {
    const auto beyond = x > -kFar;
    bool some = false;
    for (int i = 0; i < M::kLanes; ++i) some |= beyond[i] != 0;
    return some;
  }

  // D with the tail's Mills ratio = D / (x D + 1).
  static V continued(V size) {
    const V x = held(size);
    V fraction = x;
    for (int term = kTerms; term > 1; --term) fraction = x + T(term) / fraction;
    return fraction;
  }
};

// Standard normal numbers from uniform ones, by Giles (2011), Approximating the erfinv function,
// doi:10.1016/B978-0-12-385963-1.00010-1: the polynomials that XLA takes.
template <class T>
struct Quantile {
  using M = Math<T>;
  using V = typename M::V;

  static MIXFLEET_INLINE V of(V uniform) {
    const V x = 2 * uniform - 1;
    // Rounded before it is taken from one, as XLA does, and no fused product: its minimum with one is itself.
    const V square = M::at_most(x * x, T(1));
    const V w = -M::log(1 - square);
    V value;
    if constexpr (M::kSingle) {
      const V near = w - T(2.5), far = M::sqrt(w) - 3;
      value = w < 5 ? series(near, kNearSingle) : series(far, kFarSingle);
    } else {
      const V near = w - T(3.125), middle = M::sqrt(w) - T(3.25), far = M::sqrt(w) - 5;
      value = w < T(6.25) ? series(near, kNear) : w < 16 ? series(middle, kMiddle) : series(far, kFar);
    }
    return T(1.41421356237309504880) * (value * x);
  }

 private:
  template <int kCount>
  static MIXFLEET_INLINE V series(V x, const T (&coefficients)[kCount]) {
    V sum = M::splat(coefficients[0]);
    for (int i = 1; i < kCount; ++i) sum = sum * x + coefficients[i];
    return sum;
  }

  static constexpr T kNearSingle[9] = {T(2.81022636e-08), T(3.43273939e-07), T(-3.5233877e-06), T(-4.39150654e-06),
                                       T(0.00021858087),  T(-0.00125372503), T(-0.00417768164), T(0.246640727),
                                       T(1.50140941)};
  static constexpr T kFarSingle[9] = {T(-0.000200214257), T(0.000100950558), T(0.00134934322),
                                      T(-0.00367342844),  T(0.00573950773),  T(-0.0076224613),
                                      T(0.00943887047),   T(1.00167406),     T(2.83297682)};
  static constexpr T kNear[23] = {
      T(-3.6444120640178196996e-21), T(-1.685059138182016589e-19),  T(1.2858480715256400167e-18),
      T(1.115787767802518096e-17),   T(-1.333171662854620906e-16),  T(2.0972767875968561637e-17),
      T(6.6376381343583238325e-15),  T(-4.0545662729752068639e-14), T(-8.1519341976054721522e-14),
      T(2.6335093153082322977e-12),  T(-1.2975133253453532498e-11), T(-5.4154120542946279317e-11),
      T(1.051212273321532285e-09),   T(-4.1126339803469836976e-09), T(-2.9070369957882005086e-08),
      T(4.2347877827932403518e-07),  T(-1.3654692000834678645e-06), T(-1.3882523362786468719e-05),
      T(0.0001867342080340571352),   T(-0.00074070253416626697512), T(-0.0060336708714301490533),
      T(0.24015818242558961693),     T(1.6536545626831027356)};
  static constexpr T kMiddle[19] = {
      T(2.2137376921775787049e-09),  T(9.0756561938885390979e-08),  T(-2.7517406297064545428e-07),
      T(1.8239629214389227755e-08),  T(1.5027403968909827627e-06),  T(-4.013867526981545969e-06),
      T(2.9234449089955446044e-06),  T(1.2475304481671778723e-05),  T(-4.7318229009055733981e-05),
      T(6.8284851459573175448e-05),  T(2.4031110387097893999e-05),  T(-0.0003550375203628474796),
      T(0.00095328937973738049703),  T(-0.0016882755560235047313),  T(0.0024914420961078508066),
      T(-0.0037512085075692412107),  T(0.005370914553590063617),    T(1.0052589676941592334),
      T(3.0838856104922207635)};
  static constexpr T kFar[17] = {
      T(-2.7109920616438573243e-11), T(-2.5556418169965252055e-10), T(1.5076572693500548083e-09),
      T(-3.7894654401267369937e-09), T(7.6157012080783393804e-09),  T(-1.4960026627149240478e-08),
      T(2.9147953450901080826e-08),  T(-6.7711997758452339498e-08), T(2.2900482228026654717e-07),
      T(-9.9298272942317002539e-07), T(4.5260625972231537039e-06),  T(-1.9681778105531670567e-05),
      T(7.5995277030017761139e-05),  T(-0.00021503011930044477347), T(-0.00013871931833623122026),
      T(1.0103004648645343977),      T(4.8499064014085844221)};
};

}  // namespace
}  // namespace mixfleet
