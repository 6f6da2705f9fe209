// The entries from compiled programs: XLA's buffers to pointers, and the copies that this processor runs best.
//
// Of many units an idle thread of XLA's takes a share; which thread does what changes no bit.

#include <cstdint>
#include <vector>

#include "../native_isa.h"
#include "../native_threads.h"
#include "native.h"
#include "native_arguments.h"
#include "xla/ffi/api/ffi.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

namespace ffi = xla::ffi;
using mixfleet::Arrays;
using mixfleet::Crew;
using mixfleet::Crewed;
using mixfleet::GroupMove;
using mixfleet::Move;

MIXFLEET_COPIES(void, perform, mixfleet_move_f32, Crewed<Move<float>>)
MIXFLEET_COPIES(void, perform, mixfleet_move_f64, Crewed<Move<double>>)
MIXFLEET_COPIES(void, perform, mixfleet_group_move_f32, Crewed<GroupMove<float>>)
MIXFLEET_COPIES(void, perform, mixfleet_group_move_f64, Crewed<GroupMove<double>>)

namespace {

void side_by_side(void* threads, int64_t count, void (*work)(void*, int64_t), void* context) {
  mixfleet::share(*static_cast<ffi::ThreadPool*>(threads), count, work, context);
}

// XLA's buffers in the order of the arguments, then of the results.
std::vector<void*> pointers(ffi::RemainingArgs& arguments, ffi::RemainingRets& results) {
  std::vector<void*> found;
  for (size_t i = 0; i < arguments.size(); ++i) found.push_back(arguments.get<ffi::AnyBuffer>(i)->untyped_data());
  for (size_t i = 0; i < results.size(); ++i) found.push_back((*results.get<ffi::AnyBuffer>(i))->untyped_data());
  return found;
}

// The model's data, where units stand, the sites and the metric, as every call begins.
template <class T>
void take_units(Arrays& arrays, Move<T>& m) {
  take_data(arrays, m.model);
  arrays.take(m.from.x, m.from.position, m.from.value, m.from.gradient, m.from.extra);
  arrays.take(m.pooled.site_mean, m.pooled.site_precision, m.metric.covariance, m.metric.upper, m.metric.inverse);
  arrays.take(m.white, m.step, m.steps, m.threshold);
}

template <class T>
void take_results(Arrays& arrays, Move<T>& m) {
  arrays.take(m.to.x, m.to.position, m.to.value, m.to.gradient, m.to.extra, m.accept);
}

template <class T>
Move<T> described(ffi::Span<const int64_t> told, ffi::Span<const int64_t> pooled, bool dense) {
  Move<T> m{};
  mixfleet::describe(told.begin(), m.model);
  m.model.by_lane = true, m.model.dense = dense;
  m.pooled.rows = int64_t(pooled.size()), m.pooled.coordinate = pooled.begin();
  return m;
}

// Arguments: as `take_units`, then means and spreads of the pooled coordinates. Results: x, position, value, gradient,
// extra, acceptance, error, energy.
template <class T>
ffi::Error move_units(ffi::ThreadPool threads, ffi::RemainingArgs arguments, ffi::RemainingRets results,
                      ffi::Span<const int64_t> told, ffi::Span<const int64_t> pooled, bool dense) {
  const std::vector<void*> found = pointers(arguments, results);
  if (found.size() != 34 + 8) return ffi::Error::InvalidArgument("wrong number of arguments or results");
  Move<T> m = described<T>(told, pooled, dense);
  Arrays arrays(found.data());
  take_units(arrays, m);
  arrays.take(m.mean, m.spread);
  take_results(arrays, m);
  arrays.take(m.error, m.energy);
  const Crew crew{&threads, side_by_side};
  perform(Crewed<Move<T>>{&m, &crew});
  return ffi::Error::Success();
}

// Arguments: as `take_units`, then the hierarchy's centre, centre_sd, scale, used, all keys' labels by unit, present, types
// and their scales; speeds; hyperparameters, their coordinates, their metric and white numbers. Results: x, position,
// value, gradient, extra, acceptance, hyperparameters.
template <class T>
ffi::Error move_group(ffi::ThreadPool threads, ffi::RemainingArgs arguments, ffi::RemainingRets results,
                      ffi::Span<const int64_t> told, ffi::Span<const int64_t> pooled, ffi::Span<const int64_t> levels,
                      int64_t types, int64_t blocks, bool dense) {
  const std::vector<void*> found = pointers(arguments, results);
  if (found.size() != 47 + 7) return ffi::Error::InvalidArgument("wrong number of arguments or results");
  GroupMove<T> g{};
  g.units = described<T>(told, pooled, dense);
  Arrays arrays(found.data());
  take_units(arrays, g.units);
  mixfleet::Hierarchy<T>& h = g.hierarchy;
  arrays.take(h.centre, h.centre_sd, h.scale, h.used, h.member, h.present, h.type, h.type_scale, g.speed);
  arrays.take(g.hyper, g.x, g.metric.covariance, g.metric.upper, g.metric.inverse, g.white);
  h.rows = g.units.pooled.rows, h.units = g.units.model.units, h.chains = g.units.model.chains;
  h.keys = int64_t(levels.size()), h.levels = levels.begin(), h.types = types, g.blocks = blocks;
  h.site_mean = g.units.pooled.site_mean, h.site_precision = g.units.pooled.site_precision;
  take_results(arrays, g.units);
  arrays.take(g.moved);
  const Crew crew{&threads, side_by_side};
  perform(Crewed<GroupMove<T>>{&g, &crew});
  return ffi::Error::Success();
}

auto units_binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attr<ffi::Span<const int64_t>>("told")
      .Attr<ffi::Span<const int64_t>>("pooled")
      .Attr<bool>("dense");
}

auto group_binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attr<ffi::Span<const int64_t>>("told")
      .Attr<ffi::Span<const int64_t>>("pooled")
      .Attr<ffi::Span<const int64_t>>("levels")
      .Attr<int64_t>("types")
      .Attr<int64_t>("blocks")
      .Attr<bool>("dense");
}

}  // namespace

MIXFLEET_API XLA_FFI_Error* mixfleet_move_units_f32(XLA_FFI_CallFrame*);
MIXFLEET_API XLA_FFI_Error* mixfleet_move_units_f64(XLA_FFI_CallFrame*);
MIXFLEET_API XLA_FFI_Error* mixfleet_move_group_f32(XLA_FFI_CallFrame*);
MIXFLEET_API XLA_FFI_Error* mixfleet_move_group_f64(XLA_FFI_CallFrame*);
XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_move_units_f32, move_units<float>, units_binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_move_units_f64, move_units<double>, units_binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_move_group_f32, move_group<float>, group_binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_move_group_f64, move_group<double>, group_binding());
