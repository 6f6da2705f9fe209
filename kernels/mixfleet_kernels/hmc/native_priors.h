// The families of models/priors/families.py that have a native form: a coordinate's parameter and prior, with slopes.
#pragma once

#include "native.h"
#include "native_normal.h"

namespace mixfleet {
namespace {

template <class T>
struct Prior {
  using M = Math<T>;
  using V = typename M::V;
  V value, slope;         // the parameter, and its derivative by the coordinate
  V log_prob, log_slope;  // log density of the coordinate, and its derivative

  // `h` are the rows of the prior's data, `PriorFamily.encode`.
  Prior(int64_t family, V u, const V* h) {
    switch (family) {
      case kFixed:
        value = h[0], slope = log_prob = log_slope = V{};
        break;
      case kBeta: case kUniform: case kTruncatedNormal: case kProbitNormal: bounded(family, u, h); break;
      case kLaplace: case kStudentT: case kNormalOfOneSign: case kLaplaceOfOneSign: case kStudentTOfOneSign:
        of_column(family, u, h);
        break;
      default: positive(family, u, h);
    }
  }

 private:
  void positive(int64_t family, V u, const V* h) {
    const V grown = M::exp(u).value;
    value = slope = grown;
    switch (family) {
      case kHalfNormal: {
        const V z = grown / h[0];
        log_prob = u - T(0.5) * z * z, log_slope = 1 - z * z;
        break;
      }
      case kLogNormal: {
        const V z = (u - h[0]) / h[1];
        log_prob = T(-0.5) * z * z, log_slope = -z / h[1];
        break;
      }
      case kGamma:
        log_prob = h[0] * u - h[1] * grown, log_slope = h[0] - h[1] * grown;
        break;
      case kInverseGamma: {
        const V inverse = M::exp(-u).value;
        log_prob = -h[0] * u - h[1] * inverse, log_slope = h[1] * inverse - h[0];
        break;
      }
      case kExponential:
        log_prob = u - h[0] * grown, log_slope = 1 - h[0] * grown;
        break;
      case kHalfStudentT: {
        const V z = grown / h[1], square = z * z;
        log_prob = u - T(0.5) * (h[0] + 1) * M::log(1 + square / h[0]), log_slope = 1 - (h[0] + 1) / (1 + h[0] / square);
        break;
      }
      default: {  // kLowerTruncatedNormal
        value = h[2] + grown;
        const V z = (value - h[0]) / h[1];
        log_prob = u - T(0.5) * z * z, log_slope = 1 - z / h[1] * grown;
      }
    }
    log_prob += h[kHyperRows - 1];
  }

  void bounded(int64_t family, V u, const V* h) {
    const Normal<T> normal(u);
    const V jacobian = T(-0.5) * u * u - T(kLogRootTwoPi);
    const V low = family == kBeta ? V{} : family == kUniform ? h[0] : h[2];
    const V width = family == kBeta ? M::splat(1) : family == kUniform ? h[1] - h[0] : h[3] - h[2];
    value = low + width * normal.lower, slope = width * normal.density;
    switch (family) {
      case kBeta:
        log_prob = (h[0] - 1) * normal.log_lower + (h[1] - 1) * normal.log_upper + jacobian;
        log_slope = (h[0] - 1) * normal.hazard_lower - (h[1] - 1) * normal.hazard_upper - u;
        break;
      case kUniform:
        log_prob = jacobian, log_slope = -u;
        break;
      case kTruncatedNormal: {
        const V z = (value - h[0]) / h[1];
        log_prob = jacobian - T(0.5) * z * z, log_slope = -z / h[1] * slope - u;
        break;
      }
      default: {  // kProbitNormal
        const V z = (u - h[0]) / h[1];
        log_prob = T(-0.5) * z * z, log_slope = -z / h[1];
      }
    }
    log_prob += h[kHyperRows - 1];
  }

  // models/priors/columns.py: of the whole line or, through the ramp, of one sign.
  void of_column(int64_t family, V u, const V* h) {
    value = h[3] * u, slope = h[3], log_prob = h[kHyperRows - 1], log_slope = V{};
    if (family != kLaplace && family != kStudentT) {
      const Normal<T> normal(u);
      V log_ramp, log_share;
      normal.ramp(u, log_ramp, log_share);
      value = h[3] * M::exp(log_ramp).value, slope = h[3] * normal.lower;
      log_prob += normal.log_lower, log_slope = normal.hazard_lower;
    }
    const V z = (value - h[0]) / h[1];
    V by_z;
    switch (family) {
      case kNormalOfOneSign:
        log_prob -= T(0.5) * z * z, by_z = -z;
        break;
      case kLaplace: case kLaplaceOfOneSign:
        log_prob -= M::abs(z), by_z = M::flip(M::splat(-1), z);
        break;
      default:  // of Student
        log_prob -= T(0.5) * (h[2] + 1) * M::log(1 + z * z / h[2]), by_z = -(h[2] + 1) * z / (h[2] + z * z);
    }
    log_slope += by_z * slope / h[1];
  }
};

// A strength's logarithm in its unit, and the log of its derivative: both with their slopes.
template <class T>
struct Strength {
  using M = Math<T>;
  using V = typename M::V;
  V log_value, slope, jacobian, jacobian_slope;

  Strength(int64_t family, V u) {
    if (family == kLogNormal) {
      log_value = u, slope = M::splat(1), jacobian = jacobian_slope = V{};
      return;
    }
    const Normal<T> normal(u);
    normal.ramp(u, log_value, jacobian);
    slope = M::exp(jacobian).value;
    jacobian_slope = normal.hazard_lower - slope;
  }
};

}  // namespace
}  // namespace mixfleet
