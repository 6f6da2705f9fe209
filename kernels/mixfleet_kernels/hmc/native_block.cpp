// A block of Hamiltonian Monte Carlo: inference/hmc.py's ticks of a group of units, from first to last in one thread.
// Beside it what is asked before and after: the density, random numbers, draws as parameters.
//
// Compiled once per instruction set, which MIXFLEET_ISA names; native.cpp picks one at run time.

#include <cmath>
#include <initializer_list>

#include "native_density.h"

namespace mixfleet {
namespace {

// Threefry-2x32 with 20 rounds of every lane, as inference/random_numbers.py.
template <class T>
class Threefry {
  using M = Math<T>;
  using V = typename M::V;

 public:
  typedef uint32_t U __attribute__((vector_size(M::kLanes * sizeof(uint32_t))));

  U key[2], number, place;  // place: the chain's

  // Numbers strictly between 0 and 1 of row `row` of a unit's trajectory.
  MIXFLEET_INLINE V uniform(uint32_t row, uint32_t chains) const {
    const U keys[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDAu};
    U x = number + keys[0], y = (place + row * chains) + keys[1];
    mix<13, 15, 26, 6>(x, y, keys[1], keys[2], 1);
    mix<17, 29, 16, 24>(x, y, keys[2], keys[0], 2);
    mix<13, 15, 26, 6>(x, y, keys[0], keys[1], 3);
    mix<17, 29, 16, 24>(x, y, keys[1], keys[2], 4);
    mix<13, 15, 26, 6>(x, y, keys[2], keys[0], 5);
    if constexpr (M::kSingle) {
      return (__builtin_convertvector(typename M::I(x >> 9), V) + T(0.5)) * T(0x1p-23);
    } else {
      const V high = __builtin_convertvector(x, V), low = __builtin_convertvector(y >> 12, V);
      return (high * T(1048576.0) + low + T(0.5)) * T(0x1p-52);
    }
  }

 private:
  template <int kA, int kB, int kC, int kD>
  static MIXFLEET_INLINE void mix(U& x, U& y, U first, U second, uint32_t group) {
    x += y, y = ((y << kA) | (y >> (32 - kA))) ^ x;
    x += y, y = ((y << kB) | (y >> (32 - kB))) ^ x;
    x += y, y = ((y << kC) | (y >> (32 - kC))) ^ x;
    x += y, y = ((y << kD) | (y >> (32 - kD))) ^ x;
    x += first, y += second + group;
  }
};

template <class T>
struct OwnPlace {
  using V = typename Math<T>::V;
  V *position, *gradient, *push, *value, *original, *density, *extra;
};

// Sinh-arcsinh coordinates, as inference/sinh_arcsinh.py: where z leads, the derivative, and that one's logarithm's.
template <class T>
struct Mapped {
  using M = Math<T>;
  using V = typename M::V;
  V position, slope, bend;

  MIXFLEET_INLINE Mapped(V z, V location, V scale, V skewness, V tail) {
    const V root = M::sqrt(1 + z * z);
    const V arcsinh = M::flip(M::log(M::abs(z) + root), z);
    const V growth = M::exp((arcsinh + skewness) / tail).value, shrinkage = 1 / growth;
    const V sinh = T(0.5) * (growth - shrinkage), cosh = T(0.5) * (growth + shrinkage);
    position = location + scale * sinh;
    slope = scale / tail * cosh / root;
    bend = sinh / (cosh * tail * root) - z / (root * root);
  }
};

template <class T>
class Chunk {
  using M = Math<T>;
  using V = typename M::V;
  using I = typename M::I;

 public:
  Chunk(const Block<T>& block, int64_t first, Arena& arena)
      : b(block), m(block.model), density(m, first, arena, arena), vectors(density.vectors) {
    const auto rows = [&](int64_t count) { return arena.take<V>(count * vectors); };
    const int64_t d = m.dimension;
    for (OwnPlace<T>* place : {&here, &start}) {
      *place = {rows(d), rows(d), rows(d), rows(1), rows(d), rows(1), rows(m.extras())};
    }
    slope = rows(d), bend = rows(d);
    for (V** part : {&location, &scale, &skewness, &tail}) *part = rows(d);
    momentum = rows(d), velocity = rows(d), white = rows(d), product = rows(d);
    start_energy = rows(1), threshold = rows(1), step = rows(1), accept = rows(1), energy = rows(1), error = rows(1);
    balance = rows(1), length = rows(1), over = arena.take<I>(vectors), moved = arena.take<I>(vectors);
    accepted = arena.take<T>(density.units), settled = arena.take<int32_t>(density.units);
    done = arena.take<bool>(density.units), number = arena.take<int32_t>(density.units);
    left = arena.take<int32_t>(density.units), random = arena.take<Threefry<T>>(vectors);
  }

  void run() {
    if (b.ticks > 0) density.load();
    read();
    begin();
    for (int64_t tick = 0; tick < b.ticks; ++tick) advance();
    write();
  }

 private:
  int64_t unit(int64_t place) const { return density.unit(place); }

  void read() {
    const int64_t d = m.dimension;
    const auto place = [&](const Place<T>& from, OwnPlace<T>& to) {
      density.read(from.position, d, to.position), density.read(from.gradient, d, to.gradient);
      density.read(from.push, d, to.push), density.read(from.value, 1, to.value);
      density.read(from.original, d, to.original), density.read(from.density, 1, to.density);
      density.read(from.extra, m.extras(), to.extra);
    };
    place(b.here, here), place(b.start, start);
    density.spread(b.location, d, location), density.spread(b.scale, d, scale);
    density.spread(b.skewness, d, skewness), density.spread(b.tail, d, tail);
    density.read(b.momentum, d, momentum), density.read(b.velocity, d, velocity);
    density.read(b.start_energy, 1, start_energy), density.read(b.threshold, 1, threshold);
    for (int64_t u = 0; u < density.units; ++u) {
      left[u] = b.steps_left[unit(u)], number[u] = b.transition[unit(u)];
      accepted[u] = 0, settled[u] = 0;
      set_step(u);
    }
    density.mark();
    for (int64_t v = 0; v < vectors; ++v) balance[v] = V{};
    for (int64_t l = 0; l < density.lanes; ++l) {
      const int64_t u = l / m.chains, v = l / M::kLanes, i = l % M::kLanes;
      for (int k = 0; k < 2; ++k) random[v].key[k][i] = b.key[2 * unit(u) + k];
      random[v].place[i] = uint32_t(l % m.chains), random[v].number[i] = uint32_t(number[u]);
    }
  }

  void write() {
    const int64_t d = m.dimension;
    const auto place = [&](const OwnPlace<T>& from, const Place<T>& to) {
      density.write(from.position, d, to.position), density.write(from.gradient, d, to.gradient);
      density.write(from.push, d, to.push), density.write(from.value, 1, to.value);
      density.write(from.original, d, to.original), density.write(from.density, 1, to.density);
      density.write(from.extra, m.extras(), to.extra);
    };
    place(here, b.here), place(start, b.start);
    density.write(momentum, d, b.momentum), density.write(velocity, d, b.velocity);
    density.write(start_energy, 1, b.start_energy), density.write(threshold, 1, b.threshold);
    for (int64_t u = 0; u < density.held(); ++u) {
      b.steps_left[unit(u)] = left[u], b.transition[unit(u)] = number[u];
      const T draws = T(settled[u] > 0 ? settled[u] : 1) * T(m.chains);
      b.accept[unit(u)] = accepted[u] / draws;
      for (int64_t c = 0; c < m.chains; ++c) b.balance[unit(u) * m.chains + c] += lane(balance, u, c);
    }
  }

  T lane(const V* row, int64_t u, int64_t chain) const { return density.numbers(row)[u * m.chains + chain]; }

  void set_step(int64_t u) {
    const T size = std::exp(b.log_step[unit(u)]);
    for (int64_t c = 0; c < m.chains; ++c) density.numbers(step)[u * m.chains + c] = size;
  }

  // What a unit's last trajectory left, in every row of `rows`.
  void choose(const I* which, const V* yes, const V* no, int64_t rows, V* out) const {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t v = 0; v < vectors; ++v) out[r * vectors + v] = which[v] ? yes[r * vectors + v] : no[r * vectors + v];
    }
  }

  void kick() {
    for (int64_t i = 0; i < m.dimension; ++i) {
      for (int64_t v = 0; v < vectors; ++v) {
        const V half = T(0.5) * step[v];
        velocity[i * vectors + v] += half * here.push[i * vectors + v];
        momentum[i * vectors + v] += half * here.gradient[i * vectors + v];
      }
    }
  }

  void leap() {
    const int64_t d = m.dimension, count = d * vectors;
    kick();
    for (int64_t v = 0; v < vectors; ++v) {
      V volume = {};
      for (int64_t at = v; at < count; at += vectors) {
        here.position[at] += step[v] * velocity[at];
        const Mapped<T> there(here.position[at], location[at], scale[at], skewness[at], tail[at]);
        density.position[at] = there.position, slope[at] = there.slope, bend[at] = there.bend;
        volume += M::log(there.slope);
      }
      here.value[v] = volume;
    }
    density.evaluate();
    for (int64_t i = 0; i < count; ++i) here.gradient[i] = density.gradient[i] * slope[i] + bend[i];
    for (int64_t v = 0; v < vectors; ++v) here.value[v] += density.value[v];
    const auto keep = [&](const V* from, int64_t rows, V* to) { std::memcpy(to, from, rows * vectors * sizeof(V)); };
    keep(density.position, d, here.original), keep(density.value, 1, here.density);
    keep(density.extra, m.extras(), here.extra);
    density.times(b.covariance, Density<T>::kFull, here.gradient, here.push);
    kick();
  }

  // Sets off anew, in the coordinates and under the metric that are given, where the units' last trajectory began.
  void begin() {
    bool some = false;
    for (int64_t u = 0; u < density.units; ++u) some |= done[u] = b.setting_off && b.setting_off[unit(u)];
    if (!some) return;
    for (int64_t v = 0; v < vectors; ++v) {
      over[v] = I{};
      for (int64_t u = 0; u < density.units; ++u) if (done[u]) over[v] |= density.own(v, u);
      V volume = {};
      for (int64_t at = v; at < m.dimension * vectors; at += vectors) {
        const V z = mapped(start.original[at], at);
        const Mapped<T> there(z, location[at], scale[at], skewness[at], tail[at]);
        volume += M::log(there.slope);
        const V steep = start.gradient[at] * there.slope + there.bend;
        start.position[at] = over[v] ? z : start.position[at];
        start.gradient[at] = over[v] ? steep : start.gradient[at];
      }
      start.value[v] = over[v] ? start.density[v] + volume : start.value[v];
    }
    density.times(b.covariance, Density<T>::kFull, start.gradient, product);
    choose(over, product, start.push, m.dimension, start.push);
    each_row([&](V* at, V* from, int64_t rows) { choose(over, from, at, rows, at); });
    set_off(over);
  }

  // The inverse of the sinh-arcsinh map.
  V mapped(V x, int64_t at) const {
    const V y = (x - location[at]) / scale[at], size = M::abs(y);
    const V turned = tail[at] * M::flip(M::log(size + M::sqrt(1 + size * size)), y) - skewness[at];
    const V growth = M::exp(turned).value;
    return T(0.5) * (growth - 1 / growth);
  }

  void advance() {
    leap();
    bool some = false;
    for (int64_t u = 0; u < density.units; ++u) some |= done[u] = --left[u] <= 0;
    if (some) finish();
  }

  // Ends the trajectories that are done, keeps their draws, and sets off anew.
  void finish() {
    const int64_t units = density.units;
    for (int64_t v = 0; v < vectors; ++v) {
      over[v] = I{};
      for (int64_t u = 0; u < units; ++u) if (done[u]) over[v] |= density.own(v, u);
      V kinetic = {};
      for (int64_t i = 0; i < m.dimension; ++i) kinetic += momentum[i * vectors + v] * velocity[i * vectors + v];
      energy[v] = T(0.5) * kinetic - here.value[v];
      error[v] = energy[v] - start_energy[v];
      const V drop = M::exp(-(error[v] > 0 ? error[v] : V{})).value;
      accept[v] = M::abs(error[v]) < M::kInfinity ? drop : V{};
      const I yes = threshold[v] < accept[v];
      moved[v] = over[v] & yes;
      balance[v] += over[v] ? (accept[v] < 1 ? accept[v] : M::splat(-1)) : V{};
      energy[v] = yes ? energy[v] : start_energy[v];
    }
    // Where a trajectory is over, its end or its beginning is where the next one starts.
    each_row([&](V* at, V* from, int64_t rows) { choose(moved, at, from, rows, from); });
    for (int64_t u = 0; u < units; ++u) {
      if (done[u]) enter(u);
    }
    each_row([&](V* at, V* from, int64_t rows) { choose(over, from, at, rows, at); });
    set_off(over);
  }

  template <class Visit>
  void each_row(Visit visit) {
    visit(here.position, start.position, m.dimension), visit(here.gradient, start.gradient, m.dimension);
    visit(here.push, start.push, m.dimension), visit(here.value, start.value, 1);
    visit(here.original, start.original, m.dimension), visit(here.density, start.density, 1);
    visit(here.extra, start.extra, m.extras());
  }

  // A draw of one unit, and what its step size learns from it.
  void enter(int64_t u) {
    const int64_t owner = unit(u), chains = m.chains;
    T mean = 0;
    for (int64_t c = 0; c < chains; ++c) mean += lane(accept, u, c);
    accepted[u] += mean, ++settled[u], ++number[u];
    if (u >= density.held()) {
      adapt(u, mean / T(chains));
      return;
    }
    for (int64_t c = 0; c < chains; ++c) b.divergences[owner] += !(lane(error, u, c) < b.divergence);
    const int64_t fields = m.dimension + m.extras() + 2;
    // A place that nobody watches goes on when its draws are full: the last one is overwritten.
    const int64_t place = b.filled[owner] < b.capacity ? b.filled[owner] : b.capacity - 1;
    T* row = b.rows + (owner * b.capacity + place) * fields * chains;
    ++b.filled[owner];
    const auto put = [&](const V* from, int64_t rows) {
      for (int64_t r = 0; r < rows; ++r, row += chains) {
        std::memcpy(row, density.numbers(from) + r * density.lanes + u * chains, chains * sizeof(T));
      }
    };
    put(start.original, m.dimension), put(start.extra, m.extras()), put(start.density, 1), put(energy, 1);
    adapt(u, mean / T(chains));
  }

  // Dual averaging, `hmc.adapt_step`.
  void adapt(int64_t u, T mean) {
    const int64_t i = unit(u);
    if (u >= density.held() || !b.adapting[i]) return;
    const T updates = b.updates[i] + 1, weight = 1 / (updates + b.delay);
    b.shortfall[i] = (1 - weight) * b.shortfall[i] + weight * (b.target_accept[i] - mean);
    b.log_step[i] = b.centre[i] - std::sqrt(updates) / b.gain * b.shortfall[i];
    const T forget = std::pow(updates, -b.decay);
    b.log_average[i] = forget * b.log_step[i] + (1 - forget) * b.log_average[i];
    b.updates[i] = updates;
    set_step(u);
  }

  void set_off(const I* which) {
    const int64_t d = m.dimension;
    const uint32_t chains = uint32_t(m.chains);
    for (int64_t l = 0; l < density.lanes; ++l) random[l / M::kLanes].number[l % M::kLanes] = uint32_t(number[l / m.chains]);
    for (int64_t v = 0; v < vectors; ++v) {
      V squares = {};
      for (int64_t i = 0; i < d; ++i) {
        const V z = Quantile<T>::of(random[v].uniform(uint32_t(i), chains));
        white[i * vectors + v] = z;
        squares += z * z;
      }
      const V fresh = T(0.5) * squares - here.value[v];
      start_energy[v] = which[v] ? fresh : start_energy[v];
      threshold[v] = which[v] ? random[v].uniform(uint32_t(d), chains) : threshold[v];
      length[v] = random[v].uniform(uint32_t(d + 1), chains);
    }
    for (int64_t u = 0; u < density.units; ++u) {
      if (!done[u]) continue;
      const T turn = b.shortest + (b.longest - b.shortest) * lane(length, u, 0);
      const T steps = std::nearbyint(turn / std::exp(b.log_step[unit(u)]));
      left[u] = steps >= 1 ? (steps < T(b.most_steps) ? int32_t(steps) : int32_t(b.most_steps)) : 1;
    }
    density.times(b.upper, Density<T>::kUpper, white, product);
    choose(which, product, velocity, d, velocity);
    density.times(b.inverse, Density<T>::kLower, white, product);
    choose(which, product, momentum, d, momentum);
  }

  const Block<T>& b;
  const Model<T>& m;
  Density<T> density;
  const int64_t vectors;
  OwnPlace<T> here, start;
  V *location, *scale, *skewness, *tail, *slope, *bend;
  V *momentum, *velocity, *white, *product, *start_energy, *threshold, *step, *accept, *energy, *error, *balance, *length;
  I *over, *moved;  // lanes whose trajectory is over, and of these the accepted ones
  T* accepted;
  int32_t *settled, *number, *left;
  bool* done;
  Threefry<T>* random;  // [vector]
};

template <class T>
void run_block(const Block<T>& block, int64_t first) {
  Arena counted(nullptr);
  Chunk<T>(block, first, counted);
  Arena arena(memory(counted.used()));
  Chunk<T>(block, first, arena).run();
}

template <class T>
void run_density(const Evaluation<T>& asked, int64_t first) {
  Arena counted(nullptr);
  Density<T>(asked.model, first, counted, counted);
  Arena arena(memory(counted.used()));
  Density<T> density(asked.model, first, arena, arena);
  density.load();
  density.read(asked.position, asked.model.dimension, density.position);
  density.evaluate();
  density.write(density.value, 1, asked.value), density.write(density.gradient, asked.model.dimension, asked.gradient);
  density.write(density.extra, asked.model.extras(), asked.extra);
}

template <class T>
class Climber {
  using V = typename Density<T>::V;
  using M = Math<T>;

 public:
  Climber(const Climb<T>& climb, int64_t first, Arena& arena) : p(climb), density(p.model, first, arena, arena) {
    const int64_t numbers = p.model.dimension * density.vectors;
    for (V** part : {&mean, &square, &best}) *part = arena.take<V>(numbers);
    top = arena.take<V>(density.vectors);
  }

  void run() {
    const int64_t d = p.model.dimension;
    density.load();
    density.read(p.start, d, density.position);
    for (int64_t i = 0; i < d * density.vectors; ++i) mean[i] = square[i] = V{}, best[i] = density.position[i];
    for (int64_t v = 0; v < density.vectors; ++v) top[v] = M::splat(-M::kInfinity);
    for (int64_t s = 0; s < p.steps; ++s) {
      density.evaluate();
      for (int64_t v = 0; v < density.vectors; ++v) step(v, p.schedule[2 * s], p.schedule[2 * s + 1]);
    }
    density.write(best, d, p.best), density.write(top, 1, p.top);
  }

 private:
  void step(int64_t v, T rate, T whole) {
    const auto higher = density.value[v] > top[v];
    top[v] = higher ? density.value[v] : top[v];
    for (int64_t i = v; i < p.model.dimension * density.vectors; i += density.vectors) {
      const V here = density.position[i];
      // A start outside the density's reach stays where it is.
      const V gradient = M::abs(density.gradient[i]) < M::kInfinity ? density.gradient[i] : V{};
      best[i] = higher ? here : best[i];
      mean[i] = p.mean_decay * mean[i] + (1 - p.mean_decay) * gradient;
      square[i] = p.square_decay * square[i] + (1 - p.square_decay) * gradient * gradient;
      density.position[i] = here + rate * mean[i] / (M::sqrt(whole * square[i]) + p.smallest);
    }
  }

  const Climb<T>& p;
  Density<T> density;
  V *mean, *square, *best, *top;
};

template <class T>
void run_climb(const Climb<T>& climb, int64_t first) {
  Arena counted(nullptr);
  Climber<T>(climb, first, counted);
  Arena arena(memory(counted.used()));
  Climber<T>(climb, first, arena).run();
}

template <class T>
void draw_normals(const Numbers<T>& asked) {
  using M = Math<T>;
  Threefry<T> random;
  for (int i = 0; i < M::kLanes; ++i) {
    for (int k = 0; k < 2; ++k) random.key[k][i] = asked.key[k];
    random.number[i] = asked.number, random.place[i] = uint32_t(i);
  }
  for (int64_t first = 0; first < asked.count; first += M::kLanes) {
    // Row after row of so many lanes: the places follow one another.
    const typename M::V normal = Quantile<T>::of(random.uniform(uint32_t(first / M::kLanes), uint32_t(M::kLanes)));
    const int64_t held = asked.count - first < M::kLanes ? asked.count - first : M::kLanes;
    std::memcpy(asked.made + first, &normal, held * sizeof(T));
  }
}

template <class T>
void find_values(const Values<T>& asked) {
  using M = Math<T>;
  using V = typename M::V;
  for (int64_t r = 0; r < asked.rows; ++r) {
    V h[kHyperRows] = {};
    for (int k = 0; k < kHyperRows && !asked.strengths; ++k) h[k] = M::splat(asked.hyper[k * asked.rows + r]);
    for (int64_t first = 0; first < asked.lanes; first += M::kLanes) {
      const int64_t held = asked.lanes - first < M::kLanes ? asked.lanes - first : M::kLanes;
      V u = {};
      std::memcpy(&u, asked.position + r * asked.lanes + first, held * sizeof(T));
      const V found = asked.strengths ? Strength<T>(asked.family[r], u).log_value : Prior<T>(asked.family[r], u, h).value;
      std::memcpy(asked.made + r * asked.lanes + first, &found, held * sizeof(T));
    }
  }
}

}  // namespace
}  // namespace mixfleet

#define MIXFLEET_ENTRIES(suffix, type)                                                                              \
  extern "C" void MIXFLEET_ENTRY(mixfleet_block_##suffix, MIXFLEET_ISA)(const mixfleet::Work<mixfleet::Block<type>>* w) {  \
    mixfleet::run_block(*w->asked, w->first);                                                                        \
  }                                                                                                                 \
  extern "C" void MIXFLEET_ENTRY(mixfleet_density_##suffix, MIXFLEET_ISA)(                                          \
      const mixfleet::Work<mixfleet::Evaluation<type>>* w) {                                                        \
    mixfleet::run_density(*w->asked, w->first);                                                                      \
  }                                                                                                                 \
  extern "C" void MIXFLEET_ENTRY(mixfleet_climb_##suffix, MIXFLEET_ISA)(const mixfleet::Work<mixfleet::Climb<type>>* w) {  \
    mixfleet::run_climb(*w->asked, w->first);                                                                        \
  }                                                                                                                 \
  extern "C" void MIXFLEET_ENTRY(mixfleet_normals_##suffix, MIXFLEET_ISA)(const mixfleet::Numbers<type>* asked) {    \
    mixfleet::draw_normals(*asked);                                                                                 \
  }                                                                                                                 \
  extern "C" void MIXFLEET_ENTRY(mixfleet_values_##suffix, MIXFLEET_ISA)(const mixfleet::Values<type>* asked) {      \
    mixfleet::find_values(*asked);                                                                                  \
  }                                                                                                                 \
  extern "C" int64_t MIXFLEET_ENTRY(mixfleet_group_##suffix, MIXFLEET_ISA)(const int64_t* chains) {                 \
    return mixfleet::group_units<type>(*chains);                                                                    \
  }

MIXFLEET_ENTRIES(f32, float)
MIXFLEET_ENTRIES(f64, double)
