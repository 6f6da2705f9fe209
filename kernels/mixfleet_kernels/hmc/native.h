// One unit's model and chains, as the native density and block of HMC take them: sizes and plain pointers, row-major.
//
// See arrays.py for what the arrays mean.
#pragma once

#include <cstdint>

#include "../likelihood/native.h"

namespace mixfleet {

// In the order of native.py's FAMILIES.
enum Family : int64_t {
  kFixed,
  kHalfNormal,
  kLogNormal,
  kGamma,
  kInverseGamma,
  kExponential,
  kLowerTruncatedNormal,
  kHalfStudentT,
  kBeta,
  kUniform,
  kTruncatedNormal,
  kProbitNormal,
  // Of coefficients.
  kLaplace,
  kStudentT,
  kNormalOfOneSign,
  kLaplaceOfOneSign,
  kStudentTOfOneSign,
};

constexpr int kHyperRows = 5;

template <class T>
struct Model {
  int64_t weeks, channels, columns, units, chains, window, dimension, prior_columns;  // window: the longest
  int64_t tangents, shapes;  // slots of the curves' parameters: adstocks', and all, the saturations' behind these
  const int64_t *shape_row;  // [slot, channel]: the coordinate, or the column of prior data; -1 where there is none
  const int64_t *shape_family;
  int64_t sampled;  // coefficients of the baseline that are coordinates
  const int64_t *sampled_row, *sampled_family;  // [sampled]
  const Form* forms;  // [channel], then [sampled]
  int64_t effect_first, noise_first, noise_family;
  const int64_t* strength_family;  // [channel]
  bool strength_is_mean, measured;

  const T *media, *kpi, *weight, *basis, *variance, *active, *hyper, *measure, *strength_unit;

  int64_t virtual_weeks, lifted, rows;  // of lift tests; no rows where there are none
  const T *lift_media, *lift_weight, *lift_channel, *lift_test, *lift_estimate;

  int64_t gaps, correlation_first, correlation_family;  // of autocorrelated noise; no gaps where it is independent
  const T *gap_length, *gap_spans, *gap_gram;

  const T *along;  // [column, sampled, unit]: the sampled coefficients' columns along the basis

  int64_t lanes() const { return units * chains; }
  int64_t extras() const { return channels + columns; }
};

// Positions of every lane in, log density with gradient and extras out.
template <class T>
struct Evaluation {
  Model<T> model;
  const T* position;
  T *value, *gradient, *extra;
};

// In the adapted coordinates; `original` and `density` are position and log density in the model's own.
template <class T>
struct Place {
  T *position, *gradient, *push, *value, *original, *density, *extra;
};

// One block of ticks: the state and the draws are changed in place.
template <class T>
struct Block {
  Model<T> model;
  int64_t ticks, capacity, most_steps;
  T shortest, longest, divergence, gain, delay, decay;

  Place<T> here, start;
  T *momentum, *velocity, *start_energy, *threshold;
  int32_t *steps_left, *transition;
  T *log_step, *log_average, *shortfall, *centre, *updates;

  const uint32_t* key;
  const T *location, *scale, *skewness, *tail;
  const T *covariance, *upper, *inverse;
  const bool* adapting;
  const T* target_accept;

  T* rows;
  int32_t *filled, *divergences;
  T *accept, *balance;

  // [unit]: those that first set off anew from where their last trajectory began; null for none.
  const bool* setting_off;
};

// Standard normal numbers of the places of one unit's trajectory.
template <class T>
struct Numbers {
  const uint32_t* key;
  uint32_t number;
  int64_t count;
  T* made;
};

// One unit's coordinates of many draws, and the parameters there; or the logs of strengths in their units.
template <class T>
struct Values {
  int64_t rows, lanes;
  bool strengths;
  const int64_t* family;  // [row]
  const T* hyper;         // [kHyperRows, row]
  const T* position;      // [row, lane]
  T* made;                // [row, lane]
};

// A group of units, from `first` on, of what was asked.
template <class Asked>
struct Work {
  const Asked* asked;
  int64_t first;
};

}  // namespace mixfleet
