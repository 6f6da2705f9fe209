// Coefficients drawn given all else, as `autocorrelated.coefficients` draws them: the same operations in the same order,
// each rounded by itself, so that no bit depends on which of the two ran.
//
// Compiled once per instruction set, which MIXFLEET_ISA names, and without products fused into sums.

#include "native_coefficients.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "native_math.h"

#define MIXFLEET_JOIN(name, isa) name##_##isa
#define MIXFLEET_ENTRY(name, isa) MIXFLEET_JOIN(name, isa)

namespace mixfleet {
namespace {

constexpr int64_t kTables = 3;

template <class T>
class Drawing {
  using M = Math<T>;
  using V = typename M::V;
  static constexpr int64_t kLanes = M::kLanes;

 public:
  explicit Drawing(const Coefficients<T>& given) : p(given), tables(kTables * p.gaps) {
    const int64_t square = p.columns * p.columns;
    memory = static_cast<char*>(std::malloc((square + p.columns + tables + 1) * sizeof(V)));
    if (!memory) return;
    left = reinterpret_cast<V*>((reinterpret_cast<uintptr_t>(memory) + sizeof(V) - 1) & ~uintptr_t(sizeof(V) - 1));
    found = left + square, counts = found + p.columns;
  }
  ~Drawing() { std::free(memory); }
  Drawing(const Drawing&) = delete;
  Drawing& operator=(const Drawing&) = delete;

  bool run() {
    for (int64_t first = 0; memory && first < p.lanes; first += kLanes) draw(first, std::min(kLanes, p.lanes - first));
    return memory;
  }

 private:
  // Lanes beyond the last repeat it.
  static V load(const T* row, int64_t held) {
    V v;
    if (held == kLanes) {
      std::memcpy(&v, row, sizeof(v));
    } else {
      T own[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) own[i] = row[i < held ? i : held - 1];
      std::memcpy(&v, own, sizeof(v));
    }
    return v;
  }

  V& at(int64_t i, int64_t j) { return left[i * p.columns + j]; }

  void draw(int64_t first, int64_t held) {
    const int64_t columns = p.columns;
    for (int64_t k = 0; k < tables; ++k) counts[k] = load(p.weight + k * p.lanes + first, held);
    const V noise = load(p.noise + first, held), s2 = noise * noise;
    for (int64_t i = 0; i < columns; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        V total = {};
        for (int64_t k = 0; k < tables; ++k) total += p.gram[(k * columns + i) * columns + j] * counts[k];
        total = total * p.root[i] * p.root[j];
        at(i, j) = i == j ? total + s2 : total;
      }
    }
    // The Cholesky factor, column after column in the place of the matrix.
    for (int64_t k = 0; k < columns; ++k) {
      const V pivot = M::sqrt(at(k, k));
      for (int64_t i = k; i < columns; ++i) at(i, k) = at(i, k) / pivot;
      for (int64_t i = k + 1; i < columns; ++i) {
        for (int64_t j = k + 1; j <= i; ++j) at(i, j) = at(i, j) - at(i, k) * at(j, k);
      }
    }
    for (int64_t k = columns - 1; k >= 0; --k) {
      V below = {};
      for (int64_t i = columns - 1; i > k; --i) below += at(i, k) * found[i];
      found[k] = (load(p.white + k * p.lanes + first, held) - below) / at(k, k);
      const V drawn = load(p.mean + k * p.lanes + first, held) + noise * found[k];
      std::memcpy(p.drawn + k * p.lanes + first, &drawn, held * sizeof(T));
    }
  }

  const Coefficients<T>& p;
  const int64_t tables;
  char* memory;
  V *left, *found, *counts;
};

}  // namespace
}  // namespace mixfleet

// False without memory.
extern "C" bool MIXFLEET_ENTRY(mixfleet_coefficients_f32, MIXFLEET_ISA)(const mixfleet::Coefficients<float>* asked) {
  return mixfleet::Drawing<float>(*asked).run();
}

extern "C" bool MIXFLEET_ENTRY(mixfleet_coefficients_f64, MIXFLEET_ISA)(const mixfleet::Coefficients<double>* asked) {
  return mixfleet::Drawing<double>(*asked).run();
}
