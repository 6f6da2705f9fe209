// Draws of the linear block's coefficients under autocorrelated noise: sizes and plain pointers, row-major, lanes last.
#pragma once

#include <cstdint>

namespace mixfleet {

template <class T>
struct Coefficients {
  int64_t columns, gaps, lanes;
  const T *gram;    // [3, gap, column, column]
  const T *weight;  // [3, gap, lane]: what each of these products counts for
  const T *root;    // [column]: roots of the prior variances
  const T *mean;    // [column, lane]
  const T *noise;   // [lane]
  const T *white;   // [column, lane]
  T *drawn;         // [column, lane]
};

}  // namespace mixfleet
