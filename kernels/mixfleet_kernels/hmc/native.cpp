// The entries from Python: pointers to arrays, and the copies of each operation that this processor runs best.
//
// Groups of units are taken one after another by the calling thread and, where cores are idle, by others that end with
// the call. Which thread does what changes no bit.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

#include "../native_isa.h"
#include "native.h"
#include "native_arguments.h"

#define MIXFLEET_API extern "C" __attribute__((visibility("default")))

using mixfleet::Arrays;
using mixfleet::Block;
using mixfleet::Climb;
using mixfleet::Evaluation;
using mixfleet::Model;
using mixfleet::Numbers;
using mixfleet::Values;
using mixfleet::describe;
using mixfleet::take_data;
using mixfleet::Work;

MIXFLEET_COPIES(void, perform, mixfleet_block_f32, Work<Block<float>>)
MIXFLEET_COPIES(void, perform, mixfleet_block_f64, Work<Block<double>>)
MIXFLEET_COPIES(void, perform, mixfleet_density_f32, Work<Evaluation<float>>)
MIXFLEET_COPIES(void, perform, mixfleet_density_f64, Work<Evaluation<double>>)
MIXFLEET_COPIES(void, perform, mixfleet_climb_f32, Work<Climb<float>>)
MIXFLEET_COPIES(void, perform, mixfleet_climb_f64, Work<Climb<double>>)
MIXFLEET_COPIES(void, draw, mixfleet_normals_f32, Numbers<float>)
MIXFLEET_COPIES(void, draw, mixfleet_normals_f64, Numbers<double>)
MIXFLEET_COPIES(void, constrain, mixfleet_values_f32, Values<float>)
MIXFLEET_COPIES(void, constrain, mixfleet_values_f64, Values<double>)
MIXFLEET_COPIES(int64_t, group_single, mixfleet_group_f32, int64_t)
MIXFLEET_COPIES(int64_t, group_double, mixfleet_group_f64, int64_t)

namespace {

// Threads of this process that are in here.
std::atomic<int64_t> busy{0};

template <class Asked>
void run(const Asked& asked, int64_t group) {
  const int64_t groups = (asked.model.units + group - 1) / group;
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t i; (i = next++) < groups;) perform(Work<Asked>{&asked, i * group});
    --busy;
  };
  const int64_t idle = int64_t(std::thread::hardware_concurrency()) - ++busy;
  std::vector<std::thread> others;
  for (int64_t i = 0; i < std::min(groups - 1, idle); ++i) {
    ++busy;
    try {
      others.emplace_back(work);
    } catch (const std::system_error&) {  // no more threads: this one does the work
      --busy;
      break;
    }
  }
  work();
  for (std::thread& other : others) other.join();
}

template <class T>
int64_t group(const Model<T>& m) {
  return sizeof(T) == 4 ? group_single(m.chains) : group_double(m.chains);
}

// Groups in the calling thread: none takes longer than a thread takes to begin.
template <class Asked>
void one_by_one(const Asked& asked) {
  for (int64_t first = 0, units = group(asked.model); first < asked.model.units; first += units) {
    perform(Work<Asked>{&asked, first});
  }
}

// Arrays: the data, position; value, gradient, extra.
template <class T>
void density(const int64_t* told, void* const* given) {
  Evaluation<T> asked{};
  Arrays arrays(given);
  describe(told, asked.model);
  take_data(arrays, asked.model);
  arrays.take(asked.position, asked.value, asked.gradient, asked.extra);
  one_by_one(asked);
}

// Arrays: the data, schedule, start; best, top. Constants: decays of mean and mean square, and the least divisor.
template <class T>
void climb(const int64_t* told, int64_t steps, const double* constants, void* const* given) {
  Climb<T> asked{};
  Arrays arrays(given);
  describe(told, asked.model);
  take_data(arrays, asked.model);
  arrays.take(asked.schedule, asked.start, asked.best, asked.top);
  asked.steps = steps;
  for (T* constant : {&asked.mean_decay, &asked.square_decay, &asked.smallest}) *constant = T(*constants++);
  one_by_one(asked);
}

// Arrays: the data, arrays.py's Geometry, its Chains and Draws, and which units set off before the ticks, or null.
// Counts: ticks, most steps, capacity. Constants: the rest of its Tuning.
template <class T>
void block(const int64_t* told, const int64_t* counts, const double* constants, void* const* given) {
  Block<T> b{};
  Arrays arrays(given);
  describe(told, b.model);
  take_data(arrays, b.model);
  b.ticks = counts[0], b.most_steps = counts[1], b.capacity = counts[2];
  for (T* constant : {&b.shortest, &b.longest, &b.divergence, &b.gain, &b.delay, &b.decay}) *constant = T(*constants++);
  arrays.take(b.key, b.location, b.scale, b.skewness, b.tail, b.covariance, b.upper, b.inverse, b.adapting, b.target_accept);
  for (mixfleet::Place<T>* place : {&b.here, &b.start}) {
    arrays.take(place->position, place->gradient, place->push, place->value, place->original, place->density, place->extra);
  }
  arrays.take(b.momentum, b.velocity, b.start_energy, b.threshold, b.steps_left, b.transition);
  arrays.take(b.log_step, b.log_average, b.shortfall, b.centre, b.updates);
  arrays.take(b.rows, b.filled, b.divergences, b.accept, b.balance, b.setting_off);
  run(b, group(b.model));
}

}  // namespace

#define MIXFLEET_HANDLERS(suffix, type)                                                                             \
  MIXFLEET_API void mixfleet_hmc_density_##suffix(const int64_t* told, void* const* arrays) {                       \
    density<type>(told, arrays);                                                                                    \
  }                                                                                                                 \
  MIXFLEET_API void mixfleet_hmc_climb_##suffix(const int64_t* told, int64_t steps, const double* constants,        \
                                                void* const* arrays) {                                              \
    climb<type>(told, steps, constants, arrays);                                                                    \
  }                                                                                                                 \
  MIXFLEET_API void mixfleet_hmc_block_##suffix(const int64_t* told, const int64_t* counts, const double* constants, \
                                                void* const* arrays) {                                              \
    block<type>(told, counts, constants, arrays);                                                                   \
  }                                                                                                                 \
  MIXFLEET_API void mixfleet_hmc_normals_##suffix(const uint32_t* key, uint32_t number, int64_t count, type* made) { \
    draw(Numbers<type>{key, number, count, made});                                                                  \
  }                                                                                                                 \
  MIXFLEET_API void mixfleet_hmc_values_##suffix(int64_t rows, int64_t lanes, bool strengths, const int64_t* families, \
                                                 const type* hyper, const type* position, type* made) {             \
    constrain(Values<type>{rows, lanes, strengths, families, hyper, position, made});                               \
  }

MIXFLEET_HANDLERS(f32, float)
MIXFLEET_HANDLERS(f64, double)
