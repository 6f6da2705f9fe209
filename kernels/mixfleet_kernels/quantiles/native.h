// Rows whose values are to be told by a few numbers: sizes and plain pointers, row-major.
#pragma once

#include <cstdint>

namespace mixfleet {

struct Rows {
  int64_t rows, length, wanted;
  const double *values;  // [row, length]
  const int64_t *ranks;  // [wanted]: ascending, from zero
  double *found;         // [row, wanted]
  double *mean, *sd;     // [row]; the spread is that of a sample
};

}  // namespace mixfleet
