// One call of the likelihood: sizes and plain pointers, row-major, the lanes last. See arrays.py for what they mean.
#pragma once

#include <cstdint>

namespace mixfleet {

constexpr int kMostParameters = 2;
constexpr int kMostShapes = 2 * kMostParameters;
constexpr int kTapVectors = 13;  // scratch of a distance between weeks

template <class T>
struct Problem {
  int64_t weeks, channels, lanes, units, columns, window;
  int64_t begin, end;  // lanes of this pass: whole vectors, but for the last of all
  int64_t tangents;    // adstock parameters
  int64_t parameters;  // saturation parameters
  int64_t family;      // place in saturation.PARAMETERS
  bool strength_is_mean;
  bool normalised;  // whether geometric windows sum to one
  bool dense;  // whether there is a covariance in place of variances

  const T *unit_media, *kpi, *weight, *basis, *variance, *active, *strength, *log_noise, *weights;
  const T* decay;  // of geometric windows, which have no weights and tangent then; else null
  const T* tangent[kMostParameters];
  const T* parameter[kMostParameters];

  int64_t gaps;  // room for distances between fitted weeks; none where the noise is independent
  const T *gap_length, *gap_spans, *gap_gram, *correlation;
  T* by_correlation;

  T *value, *by_effect, *by_log_noise, *effect, *mean_response, *projection;
  T* by_shape[kMostShapes];
  T* mean_by_shape[kMostShapes];
  T* scratch;  // mixfleet_scratch_bytes() of them, in any state
};

}  // namespace mixfleet
