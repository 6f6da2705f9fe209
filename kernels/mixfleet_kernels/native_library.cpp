// What the library says of itself, whatever the operation.

#include <cstdint>

#include "native_isa.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

// What native_library.py expects: goes up whenever arguments, results or attributes of an operation change.
MIXFLEET_API int64_t mixfleet_interface() { return 9; }

MIXFLEET_API const char* mixfleet_isa() {
  switch (mixfleet::isa()) {
    case mixfleet::Isa::v4: return "x86-64-v4";
    case mixfleet::Isa::v3: return "x86-64-v3";
    default: return "baseline";
  }
}
