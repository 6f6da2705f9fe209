// One call of the evidence: sizes and plain pointers, row-major, the lanes last. See __init__.py for what they mean.
#pragma once

#include <cstdint>

#include "../likelihood/native.h"

namespace mixfleet {

template <class T>
struct LiftTests {
  int64_t virtual_weeks, lifted, rows, channels, lanes, units;
  int64_t lags;        // of the adstock's window
  int64_t tangents;    // adstock parameters
  int64_t parameters;  // saturation parameters
  int64_t family;      // place in saturation.PARAMETERS
  bool normalised;     // whether geometric windows sum to one

  const T *media, *weight, *channel, *test, *estimate;  // of the units
  const T *effect, *weights;
  const T* decay;  // of geometric windows, which have no weights and tangent then; else null
  const T* tangent[kMostParameters];
  const T* parameter[kMostParameters];

  T *value, *by_effect;  // these and the next are added to
  T* by_shape[kMostShapes];
  T* scratch;  // mixfleet_evidence_scratch_bytes() of them, in any state
};

}  // namespace mixfleet
