// Windows of adstock/xla.py's families: weights by lag, then their derivatives.
#pragma once

#include "native_curves.h"

namespace mixfleet {
namespace {

// Adstock parameters of a form whose window is not given.
inline int64_t window_parameters(const Form& form) {
  return form.adstock == kNone ? 0 : form.adstock == kGeometric || form.adstock == kBinomial ? 1 : 2;
}

template <class T>
class WindowWeights {
  using M = Math<T>;
  using V = typename M::V;

 public:
  // Of the window `made` of `form`, [1 + parameter][lag]. `log_weight` gives a weight's logarithm at a lag, after its
  // derivatives by the parameters.
  static void fill(const Form& form, const V* parameter, V* made) {
    const WindowWeights w{form, parameter, made};
    switch (form.adstock) {
      case kNone:
        for (int64_t l = 0; l < form.window; ++l) made[l] = M::splat(l == 0);
        return;
      case kGeometric: return w.geometric();
      case kBinomial: return w.binomial();
      case kDelayed: return w.delayed();
      case kWeibullDensity: return w.weibull_density();
      default: return w.weibull_survival();
    }
  }

 private:
  static constexpr T kLeastDecay = T(1e-30), kLeastBinomial = T(1e-8), kLeastScale = T(1e-12), kMostHazard = T(30);
  // Logarithm of a share of a window's greatest weight that rounding does not see behind a curve that is straight at
  // zero. What smaller ones carry over has squares that are subnormal, which processors are slow with.
  static constexpr T kNegligible = M::kSingle ? T(-28) : T(-230);

  WindowWeights(const Form& form, const V* parameter, V* made)
      : form_(form), parameter_(parameter), weight_(made), by_(made + form.window) {}

  V& by(int64_t j, int64_t lag) const { return by_[j * form_.window + lag]; }

  void geometric() const {
    V power = M::splat(1), slope = {};
    for (int64_t l = 0; l < form_.window; ++l) {
      weight_[l] = power, by(0, l) = slope;
      slope = parameter_[0] * slope + power, power *= parameter_[0];
    }
    if (form_.normalised) share(1);
  }

  void binomial() const {
    const V decay = M::at_least(parameter_[0], kLeastBinomial), steep = 1 / decay;
    const T length = T(form_.window + form_.peer);
    for (int64_t l = 0; l < form_.window; ++l) {
      const V base = M::log(M::splat(1 - T(l) / length));
      weight_[l] = (1 - decay) * steep * base;
      by(0, l) = parameter_[0] > kLeastBinomial ? -steep * steep * base : V{};
    }
    from_logarithms(1);
  }

  void delayed() const {
    const V decay = M::at_least(parameter_[0], kLeastDecay), log_decay = M::log(decay), inverse = 1 / decay;
    for (int64_t l = 0; l < form_.window; ++l) {
      const V away = T(l) - parameter_[1], squared = away * away;
      weight_[l] = squared * log_decay;
      by(0, l) = parameter_[0] > kLeastDecay ? squared * inverse : V{};
      by(1, l) = -2 * away * log_decay;
    }
    from_logarithms(2);
  }

  struct Hazard {
    V log, value, slope;  // z, exp(z), and its derivative by z
  };

  // A straight line where exp(-exp(z)) is zero.
  Hazard hazard(T time, V log_scale) const {
    const V z = parameter_[0] * (std::log(time) - log_scale), capped = M::at_most(z, kMostHazard);
    const V slope = M::exp(capped).value;
    return {z, slope * (1 + (z - capped)), slope};
  }

  V log_scale() const { return M::log(M::at_least(parameter_[1], kLeastScale)); }

  // What a derivative by z is by shape and scale.
  void by_shape_and_scale(int64_t lag, V z, V by_z) const {
    by(0, lag) = by_z * z / parameter_[0];
    by(1, lag) = parameter_[1] > kLeastScale ? -by_z * parameter_[0] / parameter_[1] : V{};
  }

  void weibull_density() const {
    const V scale = log_scale();
    for (int64_t l = 0; l < form_.window; ++l) {
      const T time = T(l + 1);
      const Hazard h = hazard(time, scale);
      weight_[l] = h.log - h.value - std::log(time);
      by_shape_and_scale(l, h.log, 1 - h.slope);
    }
    if (form_.peer) return spread_out();
    from_logarithms(2);
    if (form_.normalised) return;
    // The density's factor that a normalised window has not.
    for (int64_t l = 0; l < form_.window; ++l) {
      by(0, l) = weight_[l] + parameter_[0] * by(0, l);
      by(1, l) *= parameter_[0];
      weight_[l] *= parameter_[0];
    }
  }

  void weibull_survival() const {
    const V scale = log_scale();
    V total = {}, by_shape = {}, by_scale = {};
    for (int64_t l = 0; l < form_.window; ++l) {
      if (l > 0) {
        const Hazard h = hazard(T(l), scale);
        by_shape_and_scale(l, h.log, -h.slope);
        total -= h.value, by_shape += by(0, l), by_scale += by(1, l);
      }
      weight_[l] = total, by(0, l) = by_shape, by(1, l) = by_scale;
    }
    from_logarithms(2);
  }

  // Weights and their derivatives from those of their logarithms; of a normalised window's the greatest is taken off.
  void from_logarithms(int64_t parameters) const {
    exponentiate(form_.normalised != 0, parameters);
    if (form_.normalised) share(parameters);
  }

  void exponentiate(bool relative, int64_t parameters) const {
    const V greatest = extreme(weight_, true), less = relative ? greatest : V{};
    const T least = steep_at_zero(form_.saturation) ? -M::kInfinity : kNegligible;
    for (int64_t l = 0; l < form_.window; ++l) {
      const V grown = M::exp(weight_[l] - less).value;
      weight_[l] = weight_[l] - greatest < least ? V{} : grown;
      for (int64_t j = 0; j < parameters; ++j) by(j, l) *= weight_[l];
    }
  }

  // Divides by the sum.
  void share(int64_t parameters) const {
    V total = {};
    for (int64_t l = 0; l < form_.window; ++l) total += weight_[l];
    const V inverse = 1 / total;
    for (int64_t l = 0; l < form_.window; ++l) weight_[l] *= inverse;
    for (int64_t j = 0; j < parameters; ++j) {
      V slope = {};
      for (int64_t l = 0; l < form_.window; ++l) slope += by(j, l);
      for (int64_t l = 0; l < form_.window; ++l) by(j, l) = (by(j, l) - weight_[l] * slope) * inverse;
    }
  }

  // PyMC-Marketing's Weibull density: from nothing at its least to one at its greatest, all of it at once where flat.
  void spread_out() const {
    exponentiate(true, 2);
    const V least = extreme(weight_, false), greatest = extreme(weight_, true);
    const auto flat = greatest == least;
    const V inverse = 1 / (flat ? M::splat(1) : greatest - least);
    V low[2], high[2];
    for (int64_t j = 0; j < 2; ++j) {
      low[j] = where(least, j), high[j] = where(greatest, j);
    }
    for (int64_t l = 0; l < form_.window; ++l) {
      const V spread = (weight_[l] - least) * inverse;
      weight_[l] = flat ? M::splat(l == 0) : spread;
      for (int64_t j = 0; j < 2; ++j) {
        by(j, l) = flat ? V{} : (by(j, l) - low[j] - spread * (high[j] - low[j])) * inverse;
      }
    }
    if (form_.normalised) share(2);
  }

  V extreme(const V* values, bool greatest) const {
    V found = values[0];
    for (int64_t l = 1; l < form_.window; ++l) {
      found = (greatest ? values[l] > found : values[l] < found) ? values[l] : found;
    }
    return found;
  }

  // A derivative where the weight is this one; of several such lags their mean.
  V where(V weight, int64_t j) const {
    V sum = {}, count = {};
    for (int64_t l = 0; l < form_.window; ++l) {
      const auto here = weight_[l] == weight;
      sum += here ? by(j, l) : V{}, count += here ? M::splat(1) : V{};
    }
    return sum / count;
  }

  const Form& form_;
  const V* parameter_;
  V *weight_, *by_;
};

}  // namespace
}  // namespace mixfleet
