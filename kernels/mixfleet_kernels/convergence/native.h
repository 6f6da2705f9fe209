// One call of the diagnostics: sizes and plain pointers, row-major.
#pragma once

#include <cstdint>

namespace mixfleet {

template <class T>
struct Chains {
  int64_t quantities, draws, chains;
  int64_t half;  // draws that are judged of each half chain, at least 2
  const T* values;  // [quantity, draw, chain]
  double *rhat, *ess_bulk, *ess_tail;  // [quantity]
};

}  // namespace mixfleet
