// The entries: XLA's buffers to pointers, and the copies that this processor runs best.
//
// Every device thread of the engine brings its own tile, scratch memory included. Of many lanes an idle thread of XLA's
// takes a share; which thread does what changes no bit.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../native_isa.h"
#include "../native_threads.h"
#include "native.h"
#include "native_coefficients.h"
#include "xla/ffi/api/ffi.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

namespace ffi = xla::ffi;
using mixfleet::Coefficients;
using mixfleet::Problem;

MIXFLEET_COPIES(void, pass, mixfleet_likelihood_f32, Problem<float>)
MIXFLEET_COPIES(void, pass, mixfleet_likelihood_f64, Problem<double>)
MIXFLEET_COPIES(bool, coefficients, mixfleet_coefficients_f32, Coefficients<float>)
MIXFLEET_COPIES(bool, coefficients, mixfleet_coefficients_f64, Coefficients<double>)

namespace {

template <class T>
constexpr ffi::DataType kType = sizeof(T) == 4 ? ffi::DataType::F32 : ffi::DataType::F64;

// A call in parts of whole vectors of lanes, each with scratch memory of its own.
template <class T>
struct Parts {
  const Problem<T> whole;
  const int64_t count, scratch;

  void pass(int64_t i) const {
    constexpr int64_t kVector = 64 / sizeof(T);
    const int64_t lanes = (whole.lanes / count + kVector - 1) / kVector * kVector;
    Problem<T> part = whole;
    part.begin = std::min(i * lanes, whole.lanes);
    part.end = i + 1 == count ? whole.lanes : std::min((i + 1) * lanes, whole.lanes);
    part.scratch += i * scratch;
    ::pass(part);
  }
};

// Arguments: unit_media, kpi, weight, basis, variance, active, strength, log_noise; with room for `gaps` between weeks
// of autocorrelated noise their length, spans and gram, and the correlation; weights, tangents..., parameters..., where
// geometric windows have the decay in place of weights and tangent; last, where only `some` are, which lanes are asked
// for. `saturations` are the channels'.
// Results: value, by_effect, by_log_noise, effect, mean_response, projection, scratch; with gaps by_correlation;
// by_shape..., mean_by_shape...
template <class T>
ffi::Error likelihood(ffi::ThreadPool threads, ffi::RemainingArgs arguments, ffi::RemainingRets results,
                      ffi::Span<const int64_t> saturations, ffi::Span<const int64_t> carried_first, int64_t tangents,
                      int64_t window, int64_t parts, int64_t gaps, bool geometric, bool normalised, bool strength_is_mean,
                      bool some) {
  const bool lasting = gaps > 0;
  const size_t least = 9 + 4 * lasting + some, told = 7 + lasting;
  const size_t shapes = arguments.size() - least + geometric;
  if (arguments.size() < least || shapes > mixfleet::kMostShapes || size_t(tangents) > shapes || (geometric && tangents != 1) ||
      results.size() != told + 2 * shapes) {
    return ffi::Error::InvalidArgument("wrong number of arguments or results");
  }
  const auto argument = [&](size_t i) { return *arguments.get<ffi::AnyBuffer>(i); };
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (argument(i).element_type() != kType<T>) return ffi::Error::InvalidArgument("arrays differ in precision");
  }
  const auto in = [&](size_t i) { return static_cast<const T*>(argument(i).untyped_data()); };
  const auto out = [&](size_t i) { return static_cast<T*>((*results.get<ffi::AnyBuffer>(i))->untyped_data()); };

  Problem<T> p{};
  const auto media = argument(0).dimensions(), basis = argument(3).dimensions();
  p.weeks = media[0], p.channels = media[1], p.units = media[2], p.lanes = argument(1).dimensions()[1];
  p.columns = basis[2], p.window = window;
  if (int64_t(saturations.size()) != p.channels || carried_first.size() != saturations.size()) {
    return ffi::Error::InvalidArgument("each channel has one saturation and one order");
  }
  p.tangents = tangents, p.parameters = int64_t(shapes) - tangents;
  std::vector<mixfleet::Form> forms;
  for (size_t c = 0; c < saturations.size(); ++c) {
    const int64_t adstock = geometric ? mixfleet::kGeometric : mixfleet::kGiven;
    forms.push_back({adstock, window, normalised, false, saturations[c], carried_first[c]});
  }
  p.forms = forms.data();
  p.strength_is_mean = strength_is_mean;
  p.dense = argument(4).dimensions().size() == 3;
  p.gaps = gaps;

  std::vector<const T**> read = {&p.unit_media, &p.kpi, &p.weight, &p.basis, &p.variance, &p.active, &p.strength, &p.log_noise};
  if (lasting) read.insert(read.end(), {&p.gap_length, &p.gap_spans, &p.gap_gram, &p.correlation});
  read.push_back(geometric ? &p.adstock[0] : &p.weights);
  for (int64_t j = 0; j < (geometric ? 0 : tangents); ++j) read.push_back(&p.tangent[j]);
  for (int64_t j = 0; j < p.parameters; ++j) read.push_back(&p.parameter[j]);
  if (some) read.push_back(&p.asked);
  for (size_t i = 0; i < read.size(); ++i) *read[i] = in(i);

  std::vector<T**> made = {&p.value, &p.by_effect, &p.by_log_noise, &p.effect, &p.mean_response, &p.projection, &p.scratch};
  if (lasting) made.push_back(&p.by_correlation);
  for (size_t j = 0; j < shapes; ++j) made.push_back(&p.by_shape[j]);
  for (size_t j = 0; j < shapes; ++j) made.push_back(&p.mean_by_shape[j]);
  for (size_t i = 0; i < made.size(); ++i) *made[i] = out(i);
  Parts<T> all{p, parts, int64_t((*results.get<ffi::AnyBuffer>(6))->element_count()) / parts};
  mixfleet::share(threads, parts, [](void* of, int64_t i) { static_cast<Parts<T>*>(of)->pass(i); }, &all);
  return ffi::Error::Success();
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attr<ffi::Span<const int64_t>>("saturations")
      .Attr<ffi::Span<const int64_t>>("carried_first")
      .Attr<int64_t>("tangents")
      .Attr<int64_t>("window")
      .Attr<int64_t>("parts")
      .Attr<int64_t>("gaps")
      .Attr<bool>("geometric")
      .Attr<bool>("normalised")
      .Attr<bool>("strength_is_mean")
      .Attr<bool>("some");
}

}  // namespace

MIXFLEET_API XLA_FFI_Error* mixfleet_likelihood_f32(XLA_FFI_CallFrame*);
MIXFLEET_API XLA_FFI_Error* mixfleet_likelihood_f64(XLA_FFI_CallFrame*);
XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_likelihood_f32, likelihood<float>, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_likelihood_f64, likelihood<double>, binding());

// Bytes of scratch memory for any instruction set; `arrays` is one more than there are shape parameters, and `gaps` the
// room for distances between weeks, 0 where noise is independent.
MIXFLEET_API int64_t mixfleet_scratch_bytes(int64_t weeks, int64_t channels, int64_t columns, int64_t window,
                                            int64_t arrays, int64_t gaps) {
  constexpr int64_t kVector = 64, kBlock = 4;
  const int64_t rows = weeks + (window > kBlock ? window : kBlock);
  const int64_t vectors =
      4 * (window + 1) + (1 + mixfleet::kMostParameters) * (window + rows) + rows * (4 + channels * arrays) + columns * (4 + 2 * columns) + channels * (arrays + 5) + 1 +
      (gaps > 0 ? 5 * rows + columns + mixfleet::kTapVectors * gaps : 0);
  return vectors * kVector;
}

// From the host, without XLA; false without memory.
MIXFLEET_API bool mixfleet_coefficients_f32(const Coefficients<float>* asked) { return coefficients(*asked); }
MIXFLEET_API bool mixfleet_coefficients_f64(const Coefficients<double>* asked) { return coefficients(*asked); }
