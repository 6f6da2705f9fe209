// Sinh-arcsinh coordinates of one unit or several: sizes and plain pointers, row-major.
#pragma once

#include <cstdint>

namespace mixfleet {

// Maps to be fitted, a coordinate each.
struct Fit {
  int64_t coordinates, levels, iterations;
  double longest;         // step of the fit
  const double *arcsinh;  // [level]: of a normal's quantiles
  const double *weight;   // [level]: of the errors
  const double *bound;    // [2]: of skewness and the tail's logarithm
  const double *target;   // [level, coordinate]: quantiles times weights
  const double *penalty;  // [2, coordinate]
  double *found;          // [4, coordinate]: location, scale, skewness, the tail's logarithm
};

// Draws to be told in such coordinates.
struct Told {
  int64_t coordinates, draws;
  const double *map;       // [4, coordinate]: location, scale, skewness, tail
  const double *position;  // [coordinate, draw]
  const double *gradient;  // likewise, by position; null where nobody asks
  double *mapped;          // [coordinate, draw]
  double *pulled;          // likewise, the gradient by that; null where nobody asks
};

}  // namespace mixfleet
