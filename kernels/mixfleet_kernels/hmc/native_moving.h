// A few units that move in their coordinates under hyperparameters: `place` of hierarchy/reparameterization.py, and the steps
// of hierarchy/trajectories/leapfrog.py.
#pragma once

#include "native_density.h"

namespace mixfleet {
namespace {

template <class T>
class MovingUnits {
  using M = Math<T>;
  using V = typename M::V;
  using I = typename M::I;

 public:
  MovingUnits(const Move<T>& move, int64_t first, Arena& arena, Arena& scratch)
      : density(move.model, first, arena, scratch), b(move), m(move.model), vectors(density.vectors) {
    const auto rows = [&](int64_t count) { return arena.take<V>(count * vectors); };
    const int64_t d = m.dimension, pooled = b.pooled.rows;
    x_ = rows(d), gradient_ = rows(d), push_ = rows(d), velocity_ = rows(d), momentum_ = rows(d);
    mean_ = rows(pooled), spread_ = rows(pooled), site_mean_ = rows(pooled), site_precision_ = rows(pooled);
    variance_ = rows(pooled), by_mean_ = rows(pooled), by_spread_ = rows(pooled);
    known_ = {rows(d), rows(d), rows(1), rows(d), rows(m.extras())};
    end_ = {x_, rows(d), rows(1), rows(d), rows(m.extras())};
    step_ = rows(1), steps_ = rows(1), speed_ = rows(1), change_ = rows(1);
    first_value_ = rows(1), last_value_ = rows(1), motion_ = rows(1), accepted_ = arena.take<I>(vectors);
  }

  // `alone` each unit has a step of its own and a number of them; without `speed` it goes as fast as its metric says.
  void load(const T* speed, bool alone) {
    density.load(), density.mark();
    density.spread(b.pooled.site_mean, b.pooled.rows, site_mean_);
    density.spread(b.pooled.site_precision, b.pooled.rows, site_precision_);
    read(b.from, known_);
    std::memcpy(x_, known_.x, m.dimension * vectors * sizeof(V));
    if (alone) density.spread(b.step, 1, step_), density.spread(b.steps, 1, steps_);
    for (int64_t v = 0; v < vectors && !alone; ++v) step_[v] = M::splat(b.step[0]), steps_[v] = M::splat(b.steps[0]);
    for (int64_t v = 0; v < vectors; ++v) speed_[v] = M::splat(1);
    if (speed) density.spread(speed, 1, speed_);
    set_off();
  }

  // The hyperparameters that units move under, of all units.
  void take(const T* all_means, const T* all_spreads) {
    density.read(all_means, b.pooled.rows, mean_), density.read(all_spreads, b.pooled.rows, spread_);
  }

  // The i-th step; of the first, which is 0, and of the last there is half a kick.
  void leap(int64_t i) {
    const int64_t count = m.dimension * vectors;
    for (int64_t v = 0; v < vectors && i > 0; ++v) {
      const I moving = moves(v, i);
      for (int64_t at = v; at < count; at += vectors) x_[at] = moving ? x_[at] + step_[v] * velocity_[at] : x_[at];
    }
    place();
    if (i == 0) begin();
    else density.evaluate();
    pull();
    density.times(b.metric.covariance, Density<T>::kFull, gradient_, push_);
    for (int64_t v = 0; v < vectors; ++v) {
      const I moving = moves(v, i);
      const V half = T(0.5) * step_[v], kick = i == 0 ? half : steps_[v] == T(i) ? half : step_[v];
      const V slower = kick * speed_[v] * speed_[v];
      for (int64_t at = v; at < count; at += vectors) {
        velocity_[at] = moving ? velocity_[at] + slower * push_[at] : velocity_[at];
        momentum_[at] = moving ? momentum_[at] + kick * gradient_[at] : momentum_[at];
      }
    }
    keep(i);
  }

  // A trajectory of its own for every unit.
  void run() {
    load(nullptr, true), take(b.mean, b.spread);
    int64_t longest = 0;
    for (int64_t l = 0; l < density.lanes; ++l) longest = most(longest, int64_t(density.numbers(steps_)[l]));
    for (int64_t i = 0; i <= longest; ++i) leap(i);
    V *const threshold = first_value_, *const accept = speed_, *const error = change_, *const energy = motion_;
    for (int64_t v = 0; v < vectors; ++v) {
      const V before = T(0.5) * motion_[v] - first_value_[v], after = T(0.5) * motion_now(v) - last_value_[v];
      error[v] = after - before;
      energy[v] = before, last_value_[v] = after;
    }
    density.read(b.threshold, 1, threshold);
    for (int64_t v = 0; v < vectors; ++v) {
      const V drop = M::exp(-(error[v] > 0 ? error[v] : V{})).value;
      accept[v] = M::abs(error[v]) < M::kInfinity ? drop : V{};
      accepted_[v] = threshold[v] < accept[v];
      energy[v] = (accepted_[v] ? last_value_[v] : energy[v]) - known_.value[v];
    }
    write();
    density.write(accept, 1, b.accept), density.write(error, 1, b.error), density.write(energy, 1, b.energy);
  }

  // What pulls on means and spreads, for the hyperparameters.
  void write_pull(T* all_means, T* all_spreads) const {
    density.write(by_mean_, b.pooled.rows, all_means), density.write(by_spread_, b.pooled.rows, all_spreads);
  }

  // Adds what units that are present have of each chain's energy, at the beginning and now.
  void add_energies(const T* present, double* before, double* after) const {
    for (int64_t v = 0; v < vectors; ++v) {
      const V first = T(0.5) * motion_[v] - first_value_[v], last = T(0.5) * motion_now(v) - last_value_[v];
      for (int64_t i = 0; i < M::kLanes; ++i) {
        const int64_t lane = v * M::kLanes + i, u = lane / m.chains;
        if (u >= density.held() || present[density.unit(u)] == 0) continue;
        before[lane % m.chains] += double(first[i]), after[lane % m.chains] += double(last[i]);
      }
    }
  }

  // Whether each chain's end is accepted.
  void settle(const bool* accepted) {
    for (int64_t l = 0; l < density.lanes; ++l) accepted_[l / M::kLanes][l % M::kLanes] = accepted[l % m.chains] ? -1 : 0;
  }

  // Hands over the end where it was accepted, else the beginning.
  void write() {
    each(end_, known_, [&](V* from, const V* other, int64_t rows) {
      for (int64_t v = 0; v < vectors; ++v) {
        const I yes = accepted_[v];
        for (int64_t at = v; at < rows * vectors; at += vectors) from[at] = yes ? from[at] : other[at];
      }
    });
    density.write(end_.x, m.dimension, b.to.x), density.write(end_.position, m.dimension, b.to.position);
    density.write(end_.value, 1, b.to.value), density.write(end_.gradient, m.dimension, b.to.gradient);
    density.write(end_.extra, m.extras(), b.to.extra);
  }

 private:
  // Twice the kinetic energy.
  V motion_now(int64_t v) const {
    V sum = {};
    for (int64_t at = v; at < m.dimension * vectors; at += vectors) sum += momentum_[at] * velocity_[at];
    return sum;
  }

  void read(const Stand<const T>& from, const Stand<V>& to) const {
    density.read(from.x, m.dimension, to.x), density.read(from.position, m.dimension, to.position);
    density.read(from.value, 1, to.value), density.read(from.gradient, m.dimension, to.gradient);
    density.read(from.extra, m.extras(), to.extra);
  }

  template <class Visit>
  void each(const Stand<V>& one, const Stand<V>& other, Visit visit) const {
    visit(one.x, other.x, m.dimension), visit(one.position, other.position, m.dimension), visit(one.value, other.value, 1);
    visit(one.gradient, other.gradient, m.dimension), visit(one.extra, other.extra, m.extras());
  }

  I moves(int64_t v, int64_t i) const { return steps_[v] >= T(i); }

  void set_off() {
    V* const white = gradient_;
    density.read(b.white, m.dimension, white);
    density.times(b.metric.upper, Density<T>::kUpper, white, velocity_);
    density.times(b.metric.inverse, Density<T>::kLower, white, momentum_);
    for (int64_t v = 0; v < vectors; ++v) motion_[v] = V{};
    for (int64_t v = 0; v < vectors; ++v) {
      const V speed = speed_[v];
      for (int64_t at = v; at < m.dimension * vectors; at += vectors) {
        motion_[v] += white[at] * white[at];
        velocity_[at] = speed * velocity_[at];
        momentum_[at] = speed > 0 ? momentum_[at] / speed : V{};
      }
    }
  }

  // Of the beginning all is known.
  void begin() {
    const int64_t d = m.dimension * vectors;
    std::memcpy(density.position, known_.position, d * sizeof(V)), std::memcpy(density.gradient, known_.gradient, d * sizeof(V));
    std::memcpy(density.value, known_.value, vectors * sizeof(V));
    std::memcpy(density.extra, known_.extra, m.extras() * vectors * sizeof(V));
  }

  void place() {
    std::memcpy(density.position, x_, m.dimension * vectors * sizeof(V));
    for (int64_t r = 0; r < b.pooled.rows; ++r) {
      for (int64_t v = 0; v < vectors; ++v) {
        const int64_t i = r * vectors + v, at = b.pooled.coordinate[r] * vectors + v;
        variance_[i] = 1 / (site_precision_[i] + 1 / (spread_[i] * spread_[i]));
        density.position[at] = mean_[i] + away(i, at);
      }
    }
  }

  // How far a pooled coordinate is from its mean given the hyperparameters.
  V away(int64_t i, int64_t at) const { return shift(i) + M::sqrt(variance_[i]) * x_[at]; }
  // How far what the unit's own data say moves it.
  V shift(int64_t i) const { return variance_[i] * site_precision_[i] * (site_mean_[i] - mean_[i]); }

  // The density of the coordinates: that of the position with the group's prior in place of the broad one, and the volume.
  void pull() {
    std::memcpy(gradient_, density.gradient, m.dimension * vectors * sizeof(V));
    for (int64_t v = 0; v < vectors; ++v) {
      V change = {};
      for (int64_t r = 0; r < b.pooled.rows; ++r) {
        const int64_t i = r * vectors + v, at = b.pooled.coordinate[r] * vectors + v;
        V broad_mean, broad_sd;
        density.normal(b.pooled.coordinate[r], v, broad_mean, broad_sd);
        const V inverse = 1 / spread_[i], far = away(i, at), root = M::sqrt(variance_[i]);
        const V broad = (mean_[i] + far - broad_mean) / broad_sd, z = far * inverse, share = variance_[i] * inverse * inverse;
        change += T(0.5) * (broad * broad - z * z + M::log(share));
        const V steep = gradient_[at] + broad / broad_sd - z * inverse;
        gradient_[at] = root * steep;
        by_mean_[i] = share * steep + z * inverse;
        const V grown = 2 * shift(i) + root * x_[at];
        by_spread_[i] = (share * grown * steep + z * z - variance_[i] * site_precision_[i]) * inverse;
      }
      change_[v] = change;
    }
  }

  // Where lanes that still move are now.
  void keep(int64_t i) {
    const Stand<V> now{x_, density.position, density.value, density.gradient, density.extra};
    each(end_, now, [&](V* to, const V* from, int64_t rows) {
      for (int64_t v = 0; v < vectors; ++v) {
        const I moving = moves(v, i);
        for (int64_t at = v; at < rows * vectors; at += vectors) to[at] = moving ? from[at] : to[at];
      }
    });
    for (int64_t v = 0; v < vectors; ++v) {
      const V told = density.value[v] - known_.value[v] + change_[v];
      last_value_[v] = moves(v, i) ? told : last_value_[v];
      if (i == 0) first_value_[v] = told;
    }
  }

  Density<T> density;
  const Move<T>& b;
  const Model<T>& m;
  const int64_t vectors;
  V *x_, *gradient_, *push_, *velocity_, *momentum_;
  V *mean_, *spread_, *site_mean_, *site_precision_, *variance_;  // of pooled coordinates
  V *by_mean_, *by_spread_;                                       // derivatives by these
  Stand<V> known_, end_;
  V *step_, *steps_, *speed_;
  V *first_value_, *last_value_;  // log density of the coordinates less the position's at the beginning
  V *change_, *motion_;           // what the former adds to the latter; twice the first kinetic energy
  I* accepted_;
};

}  // namespace
}  // namespace mixfleet
