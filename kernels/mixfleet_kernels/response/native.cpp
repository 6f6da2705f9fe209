// The entries from Python: the copies that this processor runs best.

#include "native.h"

#include "../native_isa.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

using mixfleet::Levels;
using mixfleet::Past;

MIXFLEET_COPIES(void, respond_f32, mixfleet_past_f32, Past)
MIXFLEET_COPIES(void, respond_f64, mixfleet_past_f64, Past)
MIXFLEET_COPIES(void, saturate, mixfleet_levels, Levels)

MIXFLEET_API void mixfleet_respond_f32(const Past* past) { respond_f32(*past); }
MIXFLEET_API void mixfleet_respond_f64(const Past* past) { respond_f64(*past); }
MIXFLEET_API void mixfleet_saturate(const Levels* levels) { saturate(*levels); }
