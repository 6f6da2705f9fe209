// What draws of one unit's curves make of its media: sizes and plain pointers, row-major, the draws last.
#pragma once

#include <cstdint>

#include "../likelihood/native.h"

namespace mixfleet {

// Draws of the channels' curves.
struct Curves {
  int64_t channels, draws;
  const Form* forms;      // [channel]
  const int64_t* places;  // [channel, kMostShapes]: rows of `shape`, the adstock's first, the saturation's behind them
  const double* shape;    // [row, channel, draw]
  const double* effect;   // [channel, draw]
};

// Media of past weeks.
struct Past {
  Curves curves;
  int64_t weeks, weights;
  int64_t single;        // whether in single precision
  const double *media;   // [week, channel]
  const double *weight;  // [week, weight]
  double *sum;           // [weight, channel, draw]
  double *slope;         // likewise, of the derivative by the logarithm of all media; null where nobody asks
  double *weekly;        // [week, draw]: of all channels
  double *mean;          // [week, channel]: over the draws
};

// Media that are held at some levels for ever.
struct Levels {
  Curves curves;
  int64_t levels;
  const double *level;    // [level, channel]
  double *value;          // [level, channel, draw]
  double *slope;          // likewise, by the level; null where nobody asks
};

}  // namespace mixfleet
