// Sinh-arcsinh coordinates: their fit, of one vector of coordinates after another, and draws in them.
//
// Compiled once per instruction set, which MIXFLEET_ISA names; native.cpp picks one at run time. Everything but the
// entries at the end has internal linkage, so that no code for a newer processor is merged into the others.

#include <algorithm>
#include <cstring>

#include "native.h"
#include "../likelihood/native_math.h"

#define MIXFLEET_JOIN(name, isa) name##_##isa
#define MIXFLEET_ENTRY(name, isa) MIXFLEET_JOIN(name, isa)

namespace mixfleet {
namespace {

using M = Math<double>;
using V = M::V;
constexpr int64_t kLanes = M::kLanes;

// Of a row's numbers from `first` on; lanes beyond the last repeat it.
V load(const double* row, int64_t first, int64_t count) {
  V v;
  if (first + kLanes <= count) {
    std::memcpy(&v, row + first, sizeof v);
  } else {
    for (int64_t i = 0; i < kLanes; ++i) v[i] = row[std::min(first + i, count - 1)];
  }
  return v;
}

void store(double* row, int64_t first, int64_t count, V v) {
  std::memcpy(row + first, &v, std::min(kLanes, count - first) * sizeof(double));
}

V within(V v, double bound) { return M::at_most(M::at_least(v, -bound), bound); }

// Maps of such skewness and logarithm of the tail, with the location and scale that suit them best.
struct Fitted {
  V skewness, log_tail, location, scale, loss;
  V by_skewness, by_tail, by_both;  // of the equations for the next step, the matrix
  V pull_skewness, pull_tail;       // and their right sides
};

class Coordinates {
 public:
  Coordinates(const Fit& given, int64_t first) : p(given), first(first) {
    for (int64_t l = 0; l < p.levels; ++l) {
      const V target = at(l);
      ones += p.weight[l] * p.weight[l];
      target_one += p.weight[l] * target, target_target += target * target;
    }
    target_one /= std::sqrt(ones);
    for (int64_t i = 0; i < 2; ++i) {
      const V penalty = load(p.penalty + i * p.coordinates, first, p.coordinates);
      square[i] = penalty * penalty;
    }
  }

  void run() const {
    Fitted best = fitted(V{}, V{});
    V damping = M::splat(1e-3);
    for (int64_t i = 0; i < p.iterations; ++i) {
      const V a = best.by_skewness + damping, c = best.by_tail + damping, b = best.by_both;
      const V shared = 1 / (a * c - b * b);
      const V along = within((c * best.pull_skewness - b * best.pull_tail) * shared, p.longest);
      const V over = within((a * best.pull_tail - b * best.pull_skewness) * shared, p.longest);
      const Fitted tried =
          fitted(within(best.skewness + along, p.bound[0]), within(best.log_tail + over, p.bound[1]));
      const auto better = (tried.loss < best.loss) & (tried.scale > 0);
      damping = better ? damping / 3 : damping * 4;
      for (V Fitted::*part : {&Fitted::skewness, &Fitted::log_tail, &Fitted::location, &Fitted::scale, &Fitted::loss,
                              &Fitted::by_skewness, &Fitted::by_tail, &Fitted::by_both, &Fitted::pull_skewness,
                              &Fitted::pull_tail}) {
        best.*part = better ? tried.*part : best.*part;
      }
    }
    const V parts[] = {best.location, best.scale, best.skewness, best.log_tail};
    for (int64_t i = 0; i < 4; ++i) store(p.found + i * p.coordinates, first, p.coordinates, parts[i]);
  }

 private:
  V at(int64_t level) const { return load(p.target + level * p.coordinates, first, p.coordinates); }

  // All that is asked for are products of five vectors: the location's direction, of length one; the map `s` of no
  // location and a scale of one; the target `t`; and the map's derivatives `d` and `e`.
  Fitted fitted(V skewness, V log_tail) const {
    const V thin = M::exp(-log_tail).value, size = M::splat(std::sqrt(ones));
    V s_one = {}, d_one = {}, e_one = {}, ss = {}, st = {}, sd = {}, se = {}, td = {}, te = {}, dd = {}, de = {}, ee = {};
    for (int64_t l = 0; l < p.levels; ++l) {
      const double weight = p.weight[l];
      const V moved = (p.arcsinh[l] + skewness) * thin, grown = 0.5 * M::exp(moved).value, shrunk = 0.25 / grown;
      const V s = weight * (grown - shrunk), cosh = weight * (grown + shrunk), d = cosh * thin, e = -cosh * moved;
      const V t = at(l);
      s_one += weight * s, d_one += weight * d, e_one += weight * e;
      ss += s * s, st += s * t, sd += s * d, se += s * e;
      td += t * d, te += t * e, dd += d * d, de += d * e, ee += e * e;
    }
    s_one /= size, d_one /= size, e_one /= size;
    // Location and scale are solved for: what lies in their plane is taken out, by two vectors at right angles.
    const V length = M::sqrt(ss - s_one * s_one), t_one = target_one;
    const V t_scale = (st - s_one * t_one) / length, d_scale = (sd - s_one * d_one) / length;
    const V e_scale = (se - s_one * e_one) / length;
    const V scale = t_scale / length, both = scale * scale;
    Fitted made;
    made.skewness = skewness, made.log_tail = log_tail;
    made.scale = scale, made.location = (t_one - scale * s_one) / size;
    made.loss = (target_target - t_one * t_one - t_scale * t_scale) + square[0] * skewness * skewness +
                square[1] * log_tail * log_tail;
    made.by_skewness = both * (dd - d_one * d_one - d_scale * d_scale) + square[0];
    made.by_tail = both * (ee - e_one * e_one - e_scale * e_scale) + square[1];
    made.by_both = both * (de - d_one * e_one - d_scale * e_scale);
    made.pull_skewness = scale * (td - t_one * d_one - t_scale * d_scale) - square[0] * skewness;
    made.pull_tail = scale * (te - t_one * e_one - t_scale * e_scale) - square[1] * log_tail;
    return made;
  }

  const Fit& p;
  const int64_t first;
  double ones = 0;
  V target_one = {}, target_target = {};
  V square[2];
};

// The functions of the map as the engine has them, where z is sought: of u, the position less location over scale,
// both hyperbolic functions of the map are known without another logarithm.
void tell(const Told& p) {
  for (int64_t c = 0; c < p.coordinates; ++c) {
    const double location = p.map[c], scale = p.map[p.coordinates + c];
    const double skewness = p.map[2 * p.coordinates + c], tail = p.map[3 * p.coordinates + c];
    const int64_t row = c * p.draws;
    for (int64_t first = 0; first < p.draws; first += kLanes) {
      const V u = (load(p.position + row, first, p.draws) - location) / scale, cosh = M::sqrt(1 + u * u);
      const V grown = 0.5 * M::exp(tail * M::flip(M::log(M::abs(u) + cosh), u) - skewness).value;
      const V shrunk = 0.25 / grown, z = grown - shrunk, root = grown + shrunk;
      store(p.mapped + row, first, p.draws, z);
      if (!p.pulled) continue;
      const V slope = scale / tail * cosh / root, bend = u / (cosh * tail * root) - z / (root * root);
      store(p.pulled + row, first, p.draws, load(p.gradient + row, first, p.draws) * slope + bend);
    }
  }
}

}  // namespace
}  // namespace mixfleet

extern "C" void MIXFLEET_ENTRY(mixfleet_fit_maps, MIXFLEET_ISA)(const mixfleet::Fit* p) {
  for (int64_t first = 0; first < p->coordinates; first += mixfleet::kLanes) mixfleet::Coordinates(*p, first).run();
}
extern "C" void MIXFLEET_ENTRY(mixfleet_tell_draws, MIXFLEET_ISA)(const mixfleet::Told* p) { mixfleet::tell(*p); }
