// One call of the evidence: sizes and plain pointers, row-major, the lanes last. See __init__.py for what they mean.
#pragma once

#include <cstdint>

#include "../likelihood/native.h"

namespace mixfleet {

template <class T>
struct LiftTests {
  int64_t virtual_weeks, lifted, rows, channels, lanes, units;
  int64_t lags;        // of the longest window
  int64_t tangents;    // adstock parameters, and saturation parameters: of the channel with the most
  int64_t parameters;
  const Form* forms;  // [channel]

  const T *media, *weight, *channel, *test, *estimate;  // of the units
  const T* effect;
  const T *weights, *tangent[kMostParameters];  // of windows that are given
  const T* adstock[kMostParameters];            // of the others, what they are made of
  const T* parameter[kMostParameters];          // of saturations; anything where a channel has fewer

  T *value, *by_effect;  // these and the next are added to
  T* by_shape[kMostShapes];
  T* scratch;  // mixfleet_evidence_scratch_bytes() of them, in any state
};

}  // namespace mixfleet
