// What the library says of itself, whatever the operation.

#include <cstdint>

#include "native_isa.h"
#include "xla/ffi/api/c_api.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

// What native_library.py expects: goes up whenever arguments, results or attributes of an operation change.
MIXFLEET_API int64_t mixfleet_interface() { return 26; }

// The XLA FFI of the jaxlib whose headers it was compiled with, as thousands and ones.
MIXFLEET_API int64_t mixfleet_xla_ffi() { return 1000 * XLA_FFI_API_MAJOR + XLA_FFI_API_MINOR; }

MIXFLEET_API const char* mixfleet_isa() {
  switch (mixfleet::isa()) {
    case mixfleet::Isa::v4: return "x86-64-v4";
    case mixfleet::Isa::v3: return "x86-64-v3";
    default: return "baseline";
  }
}
