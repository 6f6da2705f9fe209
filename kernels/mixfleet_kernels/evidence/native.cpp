// The entry from XLA: buffers to pointers, and the copy of the pass that this processor runs best.

#include <cstdint>
#include <cstring>
#include <vector>

#include "../native_isa.h"
#include "native.h"
#include "xla/ffi/api/ffi.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

namespace ffi = xla::ffi;
using mixfleet::LiftTests;

MIXFLEET_COPIES(void, pass, mixfleet_evidence_f32, LiftTests<float>)
MIXFLEET_COPIES(void, pass, mixfleet_evidence_f64, LiftTests<double>)

namespace {

// Arguments: media, weight, channel, test, estimate, effect, weights, tangents..., parameters...; where geometric windows
// have the decay in place of weights and tangent. `saturations` are the channels'. Results: value, by_effect, scratch,
// by_shape...
template <class T>
ffi::Error evidence(ffi::RemainingArgs arguments, ffi::RemainingRets results,
                    ffi::Span<const int64_t> saturations, ffi::Span<const int64_t> carried_first, int64_t tangents, int64_t window, bool geometric,
                    bool normalised) {
  constexpr size_t kFixedArguments = 7, kFixedResults = 3;
  const size_t shapes = arguments.size() - kFixedArguments + geometric;
  if (arguments.size() < kFixedArguments || shapes > mixfleet::kMostShapes || size_t(tangents) > shapes ||
      (geometric && tangents != 1) || results.size() != kFixedResults + shapes) {
    return ffi::Error::InvalidArgument("wrong number of arguments or results");
  }
  const auto argument = [&](size_t i) { return *arguments.get<ffi::AnyBuffer>(i); };
  const auto in = [&](size_t i) { return static_cast<const T*>(argument(i).untyped_data()); };
  const auto out = [&](size_t i) {
    auto made = *results.get<ffi::AnyBuffer>(i);
    return static_cast<T*>(std::memset(made->untyped_data(), 0, made->size_bytes()));
  };

  LiftTests<T> p{};
  const auto weight = argument(1).dimensions(), effect = argument(5).dimensions();
  p.virtual_weeks = argument(0).dimensions()[0], p.lifted = weight[0], p.rows = weight[1], p.units = weight[2];
  p.channels = effect[0], p.lanes = effect[1];
  p.lags = window, p.tangents = tangents, p.parameters = int64_t(shapes) - tangents;
  if (int64_t(saturations.size()) != p.channels || carried_first.size() != saturations.size()) {
    return ffi::Error::InvalidArgument("each channel has one saturation and one order");
  }
  std::vector<mixfleet::Form> forms;
  for (size_t c = 0; c < saturations.size(); ++c) {
    const int64_t adstock = geometric ? mixfleet::kGeometric : mixfleet::kGiven;
    forms.push_back({adstock, window, normalised, false, saturations[c], carried_first[c]});
  }
  p.forms = forms.data();
  const T** const fixed[] = {&p.media, &p.weight, &p.channel, &p.test, &p.estimate, &p.effect,
                             geometric ? &p.adstock[0] : &p.weights};
  for (size_t i = 0; i < kFixedArguments; ++i) *fixed[i] = in(i);
  const size_t windows = geometric ? 0 : tangents;
  for (size_t j = 0; j < windows; ++j) p.tangent[j] = in(kFixedArguments + j);
  for (int64_t j = 0; j < p.parameters; ++j) p.parameter[j] = in(kFixedArguments + windows + j);
  p.value = out(0), p.by_effect = out(1), p.scratch = out(2);
  for (size_t j = 0; j < shapes; ++j) p.by_shape[j] = out(kFixedResults + j);
  pass(p);
  return ffi::Error::Success();
}

auto binding() {
  return ffi::Ffi::Bind()
      .RemainingArgs()
      .RemainingRets()
      .Attr<ffi::Span<const int64_t>>("saturations")
      .Attr<ffi::Span<const int64_t>>("carried_first")
      .Attr<int64_t>("tangents")
      .Attr<int64_t>("window")
      .Attr<bool>("geometric")
      .Attr<bool>("normalised");
}

}  // namespace

MIXFLEET_API XLA_FFI_Error* mixfleet_evidence_f32(XLA_FFI_CallFrame*);
MIXFLEET_API XLA_FFI_Error* mixfleet_evidence_f64(XLA_FFI_CallFrame*);
XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_evidence_f32, evidence<float>, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_evidence_f64, evidence<double>, binding());

// Bytes of scratch memory for any instruction set; `arrays` is one more than there are shape parameters.
MIXFLEET_API int64_t mixfleet_evidence_scratch_bytes(int64_t lifted, int64_t rows, int64_t window, int64_t arrays) {
  constexpr int64_t kVector = 64, kBlock = 4;
  const int64_t columns = (1 + mixfleet::kMostParameters) * (window + lifted + kBlock);
  return (4 * (window + 1) + columns + (lifted + kBlock) * (1 + arrays) + rows * (arrays + 5) + 1) * kVector;
}
