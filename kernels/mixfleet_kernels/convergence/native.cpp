// The entries from XLA and from the host: buffers to pointers, and the copy of the diagnostics that this processor runs best.
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

constexpr const char* kNoMemory = "no memory to sort the draws of one quantity in";
constexpr const char* kTooMany = "more than 2**32 draws of one quantity";

// What went wrong; null when nothing did.
template <class T>
const char* diagnose(const Chains<T>& chains) {
  if (2 * chains.half * chains.chains > std::numeric_limits<uint32_t>::max()) return kTooMany;
  if (chains.half < 2) {
    for (double* numbers : {chains.rhat, chains.ess_bulk, chains.ess_tail}) {
      std::fill_n(numbers, chains.quantities, std::numeric_limits<double>::quiet_NaN());
    }
    return nullptr;
  }
  return judge(chains) ? nullptr : kNoMemory;
}

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
  const char* trouble = diagnose(chains);
  if (trouble == nullptr) return ffi::Error::Success();
  return ffi::Error(trouble == kNoMemory ? ffi::ErrorCode::kResourceExhausted : ffi::ErrorCode::kInvalidArgument, trouble);
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

// Sizes: quantities, draws, chains, and how many draws are judged. What went wrong; null when nothing did.
#define MIXFLEET_HOST(suffix, type)                                                                                  \
  MIXFLEET_API const char* mixfleet_diagnose_##suffix(const int64_t* sizes, const type* values, double* rhat, double* ess_bulk, \
                                                      double* ess_tail) {                                           \
    return diagnose(Chains<type>{sizes[0], sizes[1], sizes[2], sizes[3] / 2, values, rhat, ess_bulk, ess_tail});     \
  }

MIXFLEET_HOST(f32, float)
MIXFLEET_HOST(f64, double)
