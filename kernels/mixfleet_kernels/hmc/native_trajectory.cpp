// Whole trajectories of units that share hyperparameters: each unit's own, given these, and that of a group with them, as
// `trajectory` of hierarchy/trajectories/leapfrog.py under its densities.
//
// Compiled once per instruction set, which MIXFLEET_ISA names; native_xla.cpp picks one at run time.

#include <cmath>
#include <new>

#include "native_hierarchy.h"
#include "native_moving.h"

namespace mixfleet {
namespace {

constexpr int64_t kPart = 256;  // lanes that are worth another thread

// Calls `visit` for each piece, one beside the other where the crew has threads to spare.
template <class Visit>
void side_by_side(const Crew& crew, int64_t pieces, Visit visit) {
  if (pieces == 1) return visit(0);
  crew.each(crew.threads, pieces, [](void* of, int64_t piece) { (*static_cast<Visit*>(of))(piece); }, &visit);
}

// All units of a move, a few at a time, in parts that each have memory to compute in.
template <class T>
class Units {
 public:
  Units(const Move<T>& move, const Crew& crew, Arena& arena) : crew_(crew) {
    const Model<T>& m = move.model;
    const int64_t few = group_units<T>(m.chains);
    count_ = (m.units + few - 1) / few;
    parts_ = least(count_, most(1, m.lanes() / kPart));
    Arena counted(nullptr), scratch(nullptr);
    MovingUnits<T>(move, 0, counted, scratch);
    units_ = arena.take<MovingUnits<T>>(count_);
    for (int64_t part = 0; part < parts_; ++part) {
      char* const memory = arena.take<char>(scratch.used());
      for (int64_t i = begin(part); i < begin(part + 1); ++i) {
        char* const own = arena.take<char>(counted.used());
        if (!own) continue;
        Arena mine(own), shared(memory);
        new (units_ + i) MovingUnits<T>(move, i * few, mine, shared);
      }
    }
  }

  // Calls `visit` with every few units, one part beside the other.
  template <class Visit>
  void each(Visit visit) {
    side_by_side(crew_, parts_, [&](int64_t part) {
      for (int64_t i = begin(part); i < begin(part + 1); ++i) visit(units_[i]);
    });
  }

  // The same one after another.
  template <class Visit>
  void each_in_turn(Visit visit) {
    for (int64_t i = 0; i < count_; ++i) visit(units_[i]);
  }

 private:
  int64_t begin(int64_t part) const { return part * count_ / parts_; }

  const Crew& crew_;
  int64_t count_, parts_;
  MovingUnits<T>* units_;
};

// Each unit's own trajectory.
template <class T>
void run_move(const Move<T>& move, const Crew& crew) {
  Arena counted(nullptr);
  Units<T>(move, crew, counted);
  Arena arena(memory(counted.used()));
  Units<T>(move, crew, arena).each([](MovingUnits<T>& units) { units.run(); });
}

// That of the hyperparameters and all units together.
template <class T>
class GroupTrajectory {
 public:
  GroupTrajectory(const GroupMove<T>& move, const Crew& crew, Arena& arena)
      : b(move), h(move.hierarchy), chains(h.chains), count(h.dimension()), units(move.units, crew, arena), hyper(h, arena) {
    const auto rows = [&](int64_t rows) { return arena.take<T>(rows * chains); };
    x = rows(count), gradient = rows(count), push = rows(count), velocity = rows(count), momentum = rows(count);
    by_mean = rows(h.rows * h.units), by_spread = rows(h.rows * h.units);
    before = arena.take<double>(chains), after = arena.take<double>(chains), accepted = arena.take<bool>(chains);
  }

  void run() {
    const int64_t steps = int64_t(b.units.steps[0]);
    hyper.load(), std::memcpy(x, b.x, count * chains * sizeof(T));
    times(b.metric.upper, b.white, velocity), times(b.metric.inverse, b.white, momentum);
    units.each([&](MovingUnits<T>& few) { few.load(b.speed, false); });
    for (int64_t i = 0; i <= steps; ++i) leap(i, i == 0 || i == steps ? T(0.5) : T(1));
    judge();
    const T* from = hyper.value;
    for (int64_t i = 0; i < count * chains; ++i) b.moved[i] = accepted[i % chains] ? from[i] : b.hyper[i];
    units.each([&](MovingUnits<T>& few) { few.settle(accepted), few.write(); });
  }

 private:
  void leap(int64_t i, T kicks) {
    const T step = b.units.step[0], kick = kicks * step;
    for (int64_t at = 0; at < count * chains && i > 0; ++at) x[at] += step * velocity[at];
    hyper.place(x);
    units.each([&](MovingUnits<T>& few) {
      few.take(hyper.mean, hyper.spread), few.leap(i), few.write_pull(by_mean, by_spread);
    });
    hyper.pull(x, by_mean, by_spread, gradient);
    times(b.metric.covariance, gradient, push);
    for (int64_t at = 0; at < count * chains; ++at) velocity[at] += kick * push[at], momentum[at] += kick * gradient[at];
    if (i > 0) return;
    for (int64_t c = 0; c < chains; ++c) before[c] = -double(hyper.log_density[c]);
  }

  // Blocks are of every so many-th coordinate.
  void times(const T* matrices, const T* in, T* out) const {
    const int64_t size = count / b.blocks;
    clear(out, count * chains);
    for (int64_t block = 0; block < b.blocks; ++block) {
      for (int64_t j = 0; j < size; ++j) {
        const T* from = in + (j * b.blocks + block) * chains;
        for (int64_t i = 0; i < size; ++i) {
          const T entry = matrices[(block * size + j) * size + i];
          T* to = out + (i * b.blocks + block) * chains;
          for (int64_t c = 0; c < chains; ++c) to[c] += entry * from[c];
        }
      }
    }
  }

  // Whether each chain's end is accepted: energies are sums over many numbers, of which the difference counts.
  void judge() {
    for (int64_t c = 0; c < chains; ++c) after[c] = -double(hyper.log_density[c]);
    for (int64_t i = 0; i < count * chains; ++i) {
      before[i % chains] += 0.5 * b.white[i] * b.white[i], after[i % chains] += 0.5 * momentum[i] * velocity[i];
    }
    units.each_in_turn([&](const MovingUnits<T>& few) { few.add_energies(h.present, before, after); });
    for (int64_t c = 0; c < chains; ++c) {
      const double error = after[c] - before[c];
      const bool finite = error - error == 0;
      b.units.accept[c] = finite ? T(std::exp(error > 0 ? -error : 0.0)) : T(0);
      accepted[c] = b.units.threshold[c] < b.units.accept[c];
    }
  }

  const GroupMove<T>& b;
  const Hierarchy<T>& h;
  const int64_t chains, count;
  Units<T> units;
  Hyperparameters<T> hyper;
  T *x, *gradient, *push, *velocity, *momentum;  // [coordinate, chain]
  T *by_mean, *by_spread;                        // [row, lane]
  double *before, *after;                        // [chain]
  bool* accepted;
};

template <class T>
void run_group(const GroupMove<T>& move, const Crew& crew) {
  Arena counted(nullptr);
  GroupTrajectory<T>(move, crew, counted);
  Arena arena(memory(counted.used()));
  GroupTrajectory<T>(move, crew, arena).run();
}

}  // namespace
}  // namespace mixfleet

#define MIXFLEET_ENTRIES(suffix, type)                                                                             \
  extern "C" void MIXFLEET_ENTRY(mixfleet_move_##suffix, MIXFLEET_ISA)(                                            \
      const mixfleet::Crewed<mixfleet::Move<type>>* w) {                                                           \
    mixfleet::run_move(*w->asked, *w->crew);                                                                       \
  }                                                                                                                \
  extern "C" void MIXFLEET_ENTRY(mixfleet_group_move_##suffix, MIXFLEET_ISA)(                                      \
      const mixfleet::Crewed<mixfleet::GroupMove<type>>* w) {                                                      \
    mixfleet::run_group(*w->asked, *w->crew);                                                                      \
  }

MIXFLEET_ENTRIES(f32, float)
MIXFLEET_ENTRIES(f64, double)
