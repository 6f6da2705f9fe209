// The entry from Python: the copy that this processor runs best.

#include "native.h"

#include "../native_isa.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

using mixfleet::Rows;

MIXFLEET_COPIES(bool, tell, mixfleet_rows, Rows)

// False without memory, or where more than 254 are wanted.
MIXFLEET_API bool mixfleet_row_statistics(const Rows* rows) { return tell(*rows); }
