// What draws of one unit's curves make of its media: sizes and plain pointers, row-major, the draws last.
#pragma once

#include <cstdint>

#include "../likelihood/native.h"

namespace mixfleet {

// Draws of the curves of channels of one form.
struct Curves {
  int64_t channels, draws;
  int64_t family;                            // place in saturation.PARAMETERS
  int64_t parameters;                        // saturation parameters
  const double* parameter[kMostParameters];  // [channel, draw]
  const double* effect;                      // [channel, draw]
};

// Media of past weeks, carried over by geometric windows before they saturate.
struct Past {
  Curves curves;
  int64_t weeks, weights, window;
  bool normalised;  // whether windows sum to one
  const double *media;   // [week, channel]
  const double *weight;  // [week, weight]
  const double *decay;   // [channel, draw]
  double *sum;           // [weight, channel, draw]
  double *weekly;        // [week, draw]: of all channels
  double *mean;          // [week, channel]: over the draws
};

// Media that are saturated at some levels, and nothing else.
struct Levels {
  Curves curves;
  int64_t levels;
  const double *level;    // [level, channel]
  const double *gain;     // [channel, draw]: by which levels are multiplied
  double *value, *slope;  // [level, channel, draw]; the slope by the level
};

}  // namespace mixfleet
