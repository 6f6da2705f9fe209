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

  bool by_lane;  // whether kpi and variance are each lane's own, as where units share coefficients
  bool dense;    // whether that variance is a covariance

  int64_t lanes() const { return units * chains; }
  int64_t extras() const { return channels + columns; }
  int64_t variances() const { return dense ? columns * columns : columns; }
};

// Positions of every lane in, log density with gradient and extras out.
template <class T>
struct Evaluation {
  Model<T> model;
  const T* position;
  T *value, *gradient, *extra;
};

// Adam's way up from each lane's start, and the highest point on it.
template <class T>
struct Climb {
  Model<T> model;
  int64_t steps;
  const T* schedule;  // [step, 2]: the rate over what the mean lacks, and one over what the mean square lacks
  T mean_decay, square_decay, smallest;
  const T* start;     // [coordinate, lane]
  T *best, *top;      // [coordinate, lane], and its log density
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

// Which coordinates units share a prior of, and what their own data say of these: hierarchy/reparameterization.py.
template <class T>
struct Pooled {
  int64_t rows;
  const int64_t* coordinate;            // [row]
  const T *site_mean, *site_precision;  // [row, unit]
};

// Where units stand: their coordinates under the hyperparameters, and what their own density says of the position.
template <class Number>
struct Stand {
  Number *x, *position, *value, *gradient, *extra;
};

template <class T>
struct Metric {
  const T *covariance, *upper, *inverse;  // [block, coordinate, coordinate]
};

// One trajectory of every unit given the hyperparameters, which tell each pooled coordinate's mean and spread.
template <class T>
struct Move {
  Model<T> model;
  Pooled<T> pooled;
  Stand<const T> from;
  Stand<T> to;
  Metric<T> metric;
  const T* white;           // [coordinate, lane]
  const T *step, *steps;    // [unit]
  const T *mean, *spread;   // [row, lane]
  const T* threshold;       // [lane]
  T *accept, *error, *energy;
};

// What is known of the hyperparameters beforehand: hierarchy/hyperparameters.py.
template <class T>
struct Hierarchy {
  int64_t rows, units, chains, keys, types;
  const int64_t* levels;                   // [key]
  const T *centre, *centre_sd, *scale;     // [row]
  const T* used;                           // [key, row]
  const T* member;                         // [label of all keys, unit]
  const T* present;                        // [unit]
  const T *type, *type_scale;              // [type, row], [type]
  const T *site_mean, *site_precision;     // [row, unit]

  int64_t labels() const {
    int64_t count = 0;
    for (int64_t k = 0; k < keys; ++k) count += levels[k];
    return count;
  }
  // Coordinates: centres, spreads of the units and of each key, labels' effects, types' means and spreads.
  int64_t spreads() const { return rows; }
  int64_t effects() const { return rows * (2 + keys); }
  int64_t type_means() const { return rows * (2 + keys + labels()); }
  int64_t dimension() const { return type_means() + 2 * types; }
};

// One trajectory of all hyperparameters and all units together, in every chain.
template <class T>
struct GroupMove {
  Move<T> units;  // without mean and spread; one step and number of steps, threshold and acceptance by chain
  Hierarchy<T> hierarchy;
  const T* speed;           // [unit]
  int64_t blocks;           // of the hyperparameters' metric: each of every so many-th coordinate
  Metric<T> metric;
  const T *hyper, *x;       // [coordinate, chain]: hyperparameters, and their coordinates
  const T* white;
  T* moved;                 // hyperparameters
};

// Runs pieces of work, perhaps side by side.
struct Crew {
  void* threads;
  void (*each)(void* threads, int64_t count, void (*work)(void* context, int64_t piece), void* context);
};

template <class Asked>
struct Crewed {
  const Asked* asked;
  const Crew* crew;
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
