// The entry from XLA: buffers to pointers, and the copies of density and block that this processor runs best.
//
// Groups of units are taken one after another by whichever thread is free: the one that calls, and XLA's idle ones.
// Which thread does what changes no bit.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <thread>

#include "../native_isa.h"
#include "native.h"
#include "xla/ffi/api/ffi.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

namespace ffi = xla::ffi;
using mixfleet::Block;
using mixfleet::Evaluation;
using mixfleet::Model;
using mixfleet::Work;

MIXFLEET_COPIES(void, perform, mixfleet_block_f32, Work<Block<float>>)
MIXFLEET_COPIES(void, perform, mixfleet_block_f64, Work<Block<double>>)
MIXFLEET_COPIES(void, perform, mixfleet_density_f32, Work<Evaluation<float>>)
MIXFLEET_COPIES(void, perform, mixfleet_density_f64, Work<Evaluation<double>>)
MIXFLEET_COPIES(int64_t, group_single, mixfleet_group_f32, int64_t)
MIXFLEET_COPIES(int64_t, group_double, mixfleet_group_f64, int64_t)

namespace {

using Integers = ffi::Span<const int64_t>;

constexpr size_t kData = 14;  // arrays of arrays.py's Data

// All groups of one call, shared: a thread may come when all is done and the call is over.
template <class Asked>
class Groups {
 public:
  Groups(const Asked& asked, int64_t units, int64_t group)
      : asked_(asked), units_(units), group_(group), count_((units + group - 1) / group) {}

  int64_t count() const { return count_; }

  // Until none is left to take.
  void work() {
    for (int64_t i; (i = next_++) < count_; ++done_) perform(Work<Asked>{&asked_, i * group_});
  }

  // For those that others took and still have.
  void wait() const {
    while (done_ < count_) std::this_thread::yield();
  }

 private:
  const Asked asked_;
  const int64_t units_, group_, count_;
  std::atomic<int64_t> next_{0}, done_{0};
};

template <class Asked>
void run(const Asked& asked, int64_t group, ffi::ThreadPool& threads) {
  const auto groups = std::make_shared<Groups<Asked>>(asked, asked.model.units, group);
  for (int64_t i = 1; i < std::min(groups->count(), threads.num_threads()); ++i) {
    threads.Schedule([groups] { groups->work(); });
  }
  groups->work();
  groups->wait();
}

// The arrays of a call in their order, and a check that there are as many as expected.
class Arrays {
 public:
  Arrays(ffi::RemainingArgs arguments, ffi::RemainingRets results) : arguments_(arguments), results_(results) {}

  template <class Item>
  const Item* in() {
    return static_cast<const Item*>(arguments_.get<ffi::AnyBuffer>(argument_++)->untyped_data());
  }

  template <class Item>
  Item* out() {
    return static_cast<Item*>((*results_.get<ffi::AnyBuffer>(result_++))->untyped_data());
  }

  // An array that is changed in place: XLA gives both the same memory, unless it could not.
  template <class Item>
  Item* changed() {
    const auto given = arguments_.get<ffi::AnyBuffer>(argument_);
    const void* from = given->untyped_data();
    ++argument_;
    Item* to = out<Item>();
    if (from != to) std::memcpy(to, from, given->size_bytes());
    return to;
  }

  bool all_taken() const { return argument_ == arguments_.size() && result_ == results_.size(); }

 private:
  ffi::RemainingArgs arguments_;
  ffi::RemainingRets results_;
  size_t argument_ = 0, result_ = 0;
};

// Sizes: weeks, channels, columns, units, chains, window, dimension, prior columns, and of lift tests virtual weeks,
// those with a weight, and rows. Form: saturation, first effect,
// first noise, noise's family, and whether the strength is the mean, windows sum to one, and priors are on measures.
template <class T>
bool describe(Integers sizes, Integers form, Integers first, Integers families, Integers strengths, Model<T>& m) {
  if (sizes.size() != 11 || form.size() != 7 || first.size() != families.size() || first.size() < 1 ||
      first.size() > mixfleet::kMostShapes || int64_t(strengths.size()) != sizes[1]) {
    return false;
  }
  m.weeks = sizes[0], m.channels = sizes[1], m.columns = sizes[2], m.units = sizes[3], m.chains = sizes[4];
  m.window = sizes[5], m.dimension = sizes[6], m.prior_columns = sizes[7];
  m.virtual_weeks = sizes[8], m.lifted = sizes[9], m.rows = sizes[10];
  m.saturation = form[0], m.effect_first = form[1], m.noise_first = form[2], m.noise_family = form[3];
  m.strength_is_mean = form[4], m.normalised = form[5], m.measured = form[6];
  m.shapes = first.size();
  for (int64_t j = 0; j < m.shapes; ++j) m.shape_first[j] = first[j], m.shape_family[j] = families[j];
  m.strength_family = strengths.begin();
  return true;
}

template <class T>
void take_data(Arrays& arrays, Model<T>& m) {
  const T** const fixed[] = {&m.media,      &m.kpi,           &m.weight,     &m.basis,     &m.variance,
                             &m.active,     &m.hyper,         &m.measure,    &m.strength_unit,
                             &m.lift_media, &m.lift_weight,   &m.lift_channel, &m.lift_test, &m.lift_estimate};
  for (const T** data : fixed) *data = arrays.in<T>();
}

template <class T>
int64_t group(const Model<T>& m) {
  return sizeof(T) == 4 ? group_single(m.chains) : group_double(m.chains);
}

ffi::Error wrong() { return ffi::Error::InvalidArgument("wrong number of arguments, results or attributes"); }

// Arguments: the data, position. Results: value, gradient, extra.
template <class T>
ffi::Error density(ffi::ThreadPool threads, ffi::RemainingArgs arguments, ffi::RemainingRets results, Integers sizes,
                   Integers form, Integers first, Integers families, Integers strengths) {
  Evaluation<T> asked{};
  Arrays arrays(arguments, results);
  if (arguments.size() != kData + 1 || results.size() != 3 || !describe(sizes, form, first, families, strengths, asked.model)) {
    return wrong();
  }
  take_data(arrays, asked.model);
  asked.position = arrays.in<T>();
  for (T** made : {&asked.value, &asked.gradient, &asked.extra}) *made = arrays.out<T>();
  run(asked, group(asked.model), threads);
  return ffi::Error::Success();
}

// Arguments: the data; then what does not change: arrays.py's Geometry; then what does,
// which are the results too: its Chains and Draws.
template <class T>
ffi::Error block(ffi::ThreadPool threads, ffi::RemainingArgs arguments, ffi::RemainingRets results, Integers sizes,
                 Integers form, Integers first, Integers families, Integers strengths, int64_t ticks, int64_t most_steps,
                 double shortest, double longest, double divergence, double gain, double delay, double decay) {
  constexpr size_t kConstant = kData + 10, kChanged = 2 * 7 + 11 + 5;
  Block<T> b{};
  Arrays arrays(arguments, results);
  if (arguments.size() != kConstant + kChanged || results.size() != kChanged || !describe(sizes, form, first, families, strengths, b.model)) {
    return wrong();
  }
  take_data(arrays, b.model);
  b.ticks = ticks, b.most_steps = most_steps, b.capacity = arguments.get<ffi::AnyBuffer>(kConstant + kChanged - 5)->dimensions()[1];
  b.shortest = T(shortest), b.longest = T(longest), b.divergence = T(divergence);
  b.gain = T(gain), b.delay = T(delay), b.decay = T(decay);
  b.key = arrays.in<uint32_t>();
  for (const T** one : {&b.location, &b.scale, &b.skewness, &b.tail, &b.covariance, &b.upper, &b.inverse}) *one = arrays.in<T>();
  b.adapting = arrays.in<bool>(), b.target_accept = arrays.in<T>();
  for (mixfleet::Place<T>* place : {&b.here, &b.start}) {
    for (T** one : {&place->position, &place->gradient, &place->push, &place->value, &place->original, &place->density,
                    &place->extra}) {
      *one = arrays.changed<T>();
    }
  }
  for (T** one : {&b.momentum, &b.velocity, &b.start_energy, &b.threshold}) *one = arrays.changed<T>();
  b.steps_left = arrays.changed<int32_t>(), b.transition = arrays.changed<int32_t>();
  for (T** one : {&b.log_step, &b.log_average, &b.shortfall, &b.centre, &b.updates}) *one = arrays.changed<T>();
  b.rows = arrays.changed<T>();
  b.filled = arrays.changed<int32_t>(), b.divergences = arrays.changed<int32_t>();
  b.accept = arrays.changed<T>(), b.balance = arrays.changed<T>();
  run(b, group(b.model), threads);
  return ffi::Error::Success();
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attr<Integers>("sizes")
      .Attr<Integers>("form")
      .Attr<Integers>("first")
      .Attr<Integers>("families")
      .Attr<Integers>("strengths");
}

auto block_binding() {
  return binding()
      .Attr<int64_t>("ticks")
      .Attr<int64_t>("most_steps")
      .Attr<double>("shortest")
      .Attr<double>("longest")
      .Attr<double>("divergence")
      .Attr<double>("gain")
      .Attr<double>("delay")
      .Attr<double>("decay");
}

}  // namespace

#define MIXFLEET_HANDLERS(suffix, type)                                                                         \
  MIXFLEET_API XLA_FFI_Error* mixfleet_hmc_density_##suffix(XLA_FFI_CallFrame*);                                \
  MIXFLEET_API XLA_FFI_Error* mixfleet_hmc_block_##suffix(XLA_FFI_CallFrame*);                                  \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_hmc_density_##suffix, density<type>, binding());                       \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(mixfleet_hmc_block_##suffix, block<type>, block_binding());

MIXFLEET_HANDLERS(f32, float)
MIXFLEET_HANDLERS(f64, double)
