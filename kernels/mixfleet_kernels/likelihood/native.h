// One call of the likelihood: sizes and plain pointers, row-major, the lanes last. See arrays.py for what they mean.
#pragma once

#include <cstdint>

namespace mixfleet {

constexpr int kMostParameters = 2;
constexpr int kMostShapes = 2 * kMostParameters;
constexpr int kTapVectors = 13;  // scratch of a distance between weeks

// In the order of channel_form.py's ADSTOCKS.
enum Adstock : int64_t { kGiven, kGeometric, kNone, kBinomial, kDelayed, kWeibullDensity, kWeibullSurvival };

// How the media of one channel become its response: channel_form.py's ChannelForm.
struct Form {
  int64_t adstock;
  int64_t window;      // lags
  int64_t normalised;  // whether the window's weights sum to one
  int64_t peer;        // whether the window is PyMC-Marketing's where that one differs
  int64_t saturation;  // place in channel_form.py's SATURATIONS
  int64_t carried_first;  // whether media carry over before they saturate
};

template <class T>
struct Problem {
  int64_t weeks, channels, lanes, units, columns;
  int64_t window;      // lags of the longest one
  int64_t begin, end;  // lanes of this pass: whole vectors, but for the last of all
  int64_t tangents;    // adstock parameters, and saturation parameters: of the channel with the most
  int64_t parameters;
  const Form* forms;  // [channel]
  bool strength_is_mean;
  bool dense;  // whether there is a covariance in place of variances

  const T *unit_media, *kpi, *weight, *basis, *variance, *active, *strength, *log_noise;
  const T *weights, *tangent[kMostParameters];  // of windows that are given
  const T* adstock[kMostParameters];            // of the others, what they are made of
  const T* parameter[kMostParameters];          // of saturations; anything where a channel has fewer

  int64_t gaps;  // room for distances between fitted weeks; none where the noise is independent
  const T *gap_length, *gap_spans, *gap_gram, *correlation;
  T* by_correlation;

  const T* asked;  // [lane], or null

  T *value, *by_effect, *by_log_noise, *effect, *mean_response, *projection;
  T* by_shape[kMostShapes];
  T* mean_by_shape[kMostShapes];
  T* scratch;  // mixfleet_scratch_bytes() of them, in any state
};

}  // namespace mixfleet
