// The entries from Python: the copies that this processor runs best.

#include "native.h"

#include "../native_isa.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

using mixfleet::Levels;
using mixfleet::Past;

MIXFLEET_COPIES(void, respond, mixfleet_past, Past)
MIXFLEET_COPIES(void, saturate, mixfleet_levels, Levels)

MIXFLEET_API void mixfleet_respond(const Past* past) { respond(*past); }
MIXFLEET_API void mixfleet_saturate(const Levels* levels) { saturate(*levels); }
