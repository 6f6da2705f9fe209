// The entry from XLA: buffers to pointers, and the copy of the diagnostics that this processor runs best.
//
// No threads: every tile of the engine brings its own.

#include <algorithm>
#include <limits>

#include "../native_isa.h"
#include "native.h"
#include "xla/ffi/api/ffi.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

namespace ffi = xla::ffi;
using mixfleet::Chains;

MIXFLEET_COPIES(bool, judge, mixfleet_convergence_f32, Chains<float>)
MIXFLEET_COPIES(bool, judge, mixfleet_convergence_f64, Chains<double>)

namespace {

template <class T>
constexpr ffi::DataType kType = sizeof(T) == 4 ? ffi::DataType::F32 : ffi::DataType::F64;

using Numbers = ffi::Result<ffi::BufferR1<ffi::F64>>;

template <class T>
ffi::Error convergence(ffi::BufferR3<kType<T>> draws, ffi::BufferR0<ffi::S32> count, Numbers rhat, Numbers ess_bulk,
                       Numbers ess_tail) {
  const auto sizes = draws.dimensions();
  const int64_t judged = std::min<int64_t>(*count.typed_data(), sizes[1]);
  Chains<T> chains{sizes[0],
                   sizes[1],
                   sizes[2],
                   judged / 2,
                   draws.typed_data(),
                   rhat->typed_data(),
                   ess_bulk->typed_data(),
                   ess_tail->typed_data()};
  if (2 * chains.half * chains.chains > std::numeric_limits<uint32_t>::max()) {
    return ffi::Error::InvalidArgument("more than 2**32 draws of one quantity");
  }
  if (chains.half < 2) {
    for (double* numbers : {chains.rhat, chains.ess_bulk, chains.ess_tail}) {
      std::fill_n(numbers, chains.quantities, std::numeric_limits<double>::quiet_NaN());
    }
    return ffi::Error::Success();
  }
  return judge(chains) ? ffi::Error::Success()
                       : ffi::Error(ffi::ErrorCode::kResourceExhausted, "no memory to sort the draws of one quantity in");
}

template <class T>
auto binding() {
  return ffi::Ffi::Bind()
      .template Arg<ffi::BufferR3<kType<T>>>()
      .template Arg<ffi::BufferR0<ffi::S32>>()
      .template Ret<ffi::BufferR1<ffi::F64>>()
      .template Ret<ffi::BufferR1<ffi::F64>>()
      .template Ret<ffi::BufferR1<ffi::F64>>();
}

}  // namespace

MIXFLEET_API XLA_FFI_Error* mixfleet_convergence_f32(XLA_FFI_CallFrame*);
MIXFLEET_API XLA_FFI_Error* mixfleet_convergence_f64(XLA_FFI_CallFrame*);
XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_convergence_f32, convergence<float>, binding<float>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_convergence_f64, convergence<double>, binding<double>());
