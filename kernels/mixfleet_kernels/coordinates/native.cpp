// The entries from Python: the copies that this processor runs best.

#include "native.h"

#include "../native_isa.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

using mixfleet::Fit;
using mixfleet::Told;

MIXFLEET_COPIES(void, fit, mixfleet_fit_maps, Fit)
MIXFLEET_COPIES(void, tell, mixfleet_tell_draws, Told)

MIXFLEET_API void mixfleet_fit_coordinates(const Fit* maps) { fit(*maps); }
MIXFLEET_API void mixfleet_in_coordinates(const Told* draws) { tell(*draws); }
