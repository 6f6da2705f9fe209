// Noise that is autoregressive of order one: autocorrelated.py's whitening of a vector of lanes, two taps a week.
//
// The fitted week before is the last one that was met, in each lane its own, and what lies between is skipped.
#pragma once

#include "native.h"
#include "native_vector.h"

namespace mixfleet {
namespace {

template <class T>
class Whitening {
  using M = Math<T>;
  using V = typename M::V;
  using I = typename M::I;

 public:
  Whitening(const Problem<T>& problem, const Vector<T>& lanes) : p(problem), at(lanes) {}

  // Takes memory for `rows` weeks from `free` on; none where the noise is independent.
  void place(V* free, int64_t rows) {
    if (p.gaps == 0) return;
    const auto take = [&free](int64_t count) { return (free += count) - count; };
    phi = take(rows), scale = take(rows), white = take(rows), earlier = take(rows);
    fitted = reinterpret_cast<I*>(take(rows));
    root = take(p.columns), taps = reinterpret_cast<Tap*>(take(p.gaps * kTapVectors));
  }

  // What the correlation makes of every distance and week.
  void prepare(int64_t first, int64_t end) {
    first_ = first, end_ = end;
    for (int64_t g = 0; g < p.gaps; ++g) set_tap(g);
    for (int64_t t = first; t < end; ++t) {
      V coefficient = {}, weight = {};
      for (int64_t g = 0; g < p.gaps; ++g) {
        const V here = span(t, g);
        coefficient += here * taps[g].phi, weight += here * taps[g].scale;
        taps[g].count += here;
      }
      phi[t] = coefficient, scale[t] = weight, fitted[t] = weight != 0;
    }
    for (int64_t k = 0; k < p.columns; ++k) root[k] = M::sqrt(at.load(p.variance + k * p.lanes));
  }

  // W times the values, into `white`; the values of the weeks before into `earlier`.
  void whiten(const V* values) {
    V last = {};
    for (int64_t t = first_; t < end_; ++t) {
      earlier[t] = last;
      white[t] = scale[t] * (values[t] - phi[t] * last);
      last = fitted[t] ? values[t] : last;
    }
  }

  // W' times `white`.
  void back(V* out) const {
    V later = {};
    for (int64_t t = end_; t-- > first_;) {
      const V own = scale[t] * white[t];
      out[t] = fitted[t] ? own - later : V{};
      later = fitted[t] ? phi[t] * own : later;
    }
  }

  // An entry of the scaled basis' products after whitening.
  V gram(int64_t i, int64_t j) const {
    V total = product(0, 0, i, j);  // of weeks with none before them
    for (int64_t g = 1; g < p.gaps; ++g) {
      for (int64_t k = 0; k < kParts; ++k) total += taps[g].part[k] * product(k, g, i, j);
    }
    return root[i] * root[j] * total;
  }

  // Adds an entry of the inverse of the coefficients' precision, times `often`, to what their determinant owes.
  void owe(int64_t i, int64_t j, V inverse, T often) {
    const V weight = often * root[i] * root[j] * inverse;
    for (int64_t g = 1; g < p.gaps; ++g) {
      for (int64_t k = 0; k < kParts; ++k) taps[g].owed[k] += weight * product(k, g, i, j);
    }
  }

  // With `white` of what the coefficients leave: the squares over the variance, the log of the whitening's determinant,
  // twice, and the derivative of -2 log likelihood by the correlation.
  void conclude(V precision, V& squares, V& log_determinant, V& by_correlation) {
    squares = log_determinant = by_correlation = V{};
    for (int64_t t = first_; t < end_; ++t) {
      const V square = white[t] * white[t], cross = scale[t] * white[t] * earlier[t];
      squares += precision * square;
      for (int64_t g = 1; g < p.gaps; ++g) taps[g].square += span(t, g) * square, taps[g].cross += span(t, g) * cross;
    }
    for (int64_t g = 1; g < p.gaps; ++g) {
      const Tap& tap = taps[g];
      const V along = tap.phi * tap.slope * tap.precision, moved = 2 * along * tap.precision;
      log_determinant += tap.count * M::log(tap.precision);
      by_correlation += 2 * precision * (along * tap.square - tap.slope * tap.cross) - 2 * tap.count * along;
      by_correlation += moved * tap.owed[0] - (tap.slope * tap.precision + tap.phi * moved) * tap.owed[1];
      by_correlation += (2 * along + tap.phi * tap.phi * moved) * tap.owed[2];
    }
  }

  V *root, *white;

 private:
  static constexpr int64_t kParts = 3;

  // Of one distance.
  struct Tap {
    V phi, precision, scale, slope;  // the slope is that of phi
    V part[kParts];                  // what weeks with themselves, with those before, and those before count for
    V owed[kParts];                  // to these, by the determinant
    V count, square, cross;          // sums over its weeks
  };
  static_assert(sizeof(Tap) == kTapVectors * sizeof(V));

  V spread(const T* value) const {
    return at.units == 1 ? M::splat(value[at.unit]) : at.template spread<0>(value + at.unit, 1);
  }
  V span(int64_t t, int64_t g) const { return spread(p.gap_spans + (t * p.gaps + g) * p.units); }
  V product(int64_t k, int64_t g, int64_t i, int64_t j) const {
    return spread(p.gap_gram + (((k * p.gaps + g) * p.columns + i) * p.columns + j) * p.units);
  }

  void set_tap(int64_t g) {
    const V length = spread(p.gap_length + g * p.units), correlation = at.load(p.correlation);
    int64_t most = 0;
    for (int i = 0; i < M::kLanes; ++i) most = length[i] > T(most) ? int64_t(length[i]) : most;
    V power = M::splat(1), phi = {}, slope = {};
    for (int64_t n = 1; n <= most; ++n) {
      slope = length == T(n) ? T(n) * power : slope;
      power *= correlation;
      phi = length == T(n) ? power : phi;
    }
    Tap& tap = taps[g];
    tap = Tap{};
    tap.phi = phi, tap.slope = slope, tap.precision = 1 / ((1 - phi) * (1 + phi)), tap.scale = M::sqrt(tap.precision);
    tap.part[0] = tap.precision, tap.part[1] = -phi * tap.precision, tap.part[2] = phi * phi * tap.precision;
  }

  const Problem<T>& p;
  const Vector<T>& at;
  V *phi, *scale, *earlier;
  I* fitted;
  Tap* taps;
  int64_t first_ = 0, end_ = 0;
};

}  // namespace
}  // namespace mixfleet
