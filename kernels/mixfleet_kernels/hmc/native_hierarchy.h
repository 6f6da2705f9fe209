// A group's hyperparameters at their coordinates, and what pulls on these: `place_hyper` of
// hierarchy/reparameterization.py with its prior, and the derivatives of both, from last to first.
//
// Rows of the hierarchy depend on each other through types alone, so each is walked by itself, and once more before it is
// pulled on. Within a row numbers stand by unit or label, then by chain.
#pragma once

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <limits>

#include "native.h"
#include "native_arena.h"
#include "native_normal.h"

// A loop over chains, of which none reads what another writes.
#define MIXFLEET_EACH(chain, chains) _Pragma("GCC ivdep") for (int64_t chain = 0; chain < chains; ++chain)

namespace mixfleet {
namespace {

template <class T>
class Hyperparameters {
  using M = Math<T>;
  using V = typename M::V;

 public:
  Hyperparameters(const Hierarchy<T>& hierarchy, Arena& arena) : h(hierarchy), chains(h.chains) {
    const int64_t n = h.units * chains, labels = h.labels(), layers = most(h.keys, 1);
    const auto take = [&](int64_t count) { return arena.take<T>(count * chains + M::kLanes); };
    value = take(h.dimension()), log_density = take(1);
    mean = arena.take<T>(h.rows * n), spread = arena.take<T>(h.rows * n);
    for (Ramps* of : {&spreads_, &types_}) {
      const int64_t count = of == &types_ ? h.types : h.rows * (1 + h.keys);
      *of = {take(count), take(count), take(count), take(count)};
    }
    by_type_mean_ = take(h.types), by_type_spread_ = take(h.types);
    base_ = take(1), sd_ = take(1), by_base_ = take(1), by_sd_ = take(1);
    told_ = arena.take<T>(n), by_told_ = arena.take<T>(n), by_left_ = arena.take<T>(n), total_ = arena.take<T>(n);
    noise_ = arena.take<T>(layers * n), by_noise_ = arena.take<T>(layers * n), left_ = arena.take<T>((1 + h.keys) * n);
    factor_ = take(h.keys), by_factor_ = take(h.keys), by_spread_ = take(1 + h.keys);
    centre_ = {take(1), take(1), take(1), take(1), take(1)};
    effects_ = {take(labels), take(labels), take(labels), take(labels), take(labels)};
    weight_ = take(labels), pulled_ = take(labels);
    label_ = arena.take<int64_t>(h.keys * h.units);
  }

  // Which label of each key a unit has; none beyond the last unit.
  void load() {
    const T* member = h.member;
    for (int64_t k = 0; k < h.keys; member += h.levels[k++] * h.units) {
      for (int64_t u = 0; u < h.units; ++u) {
        int64_t& label = label_[k * h.units + u] = -1;
        for (int64_t l = 0; l < h.levels[k]; ++l) label = member[l * h.units + u] != 0 ? l : label;
      }
    }
  }

  // Finds hyperparameters, each unit's mean and spread in every row, and the log density of all but the units.
  void place(const T* x) {
    const int64_t first = h.spreads() * chains, types = (h.type_means() + h.types) * chains;
    spreads_.find(x + first, h.rows * (1 + h.keys) * chains), types_.find(x + types, h.types * chains);
    std::memcpy(value, x, (h.dimension() * chains) * sizeof(T));
    MIXFLEET_EACH(c, chains) log_density[c] = 0;
    for (int64_t i = 0; i < h.types * chains; ++i) {
      const T mean = x[h.type_means() * chains + i];
      log_density[i % chains] += types_.log_prior[i] - T(0.5) * mean * mean;
    }
    for (int64_t r = 0; r < h.rows; ++r) {
      walk(r, x);
      tell(r);
      add(centre_, chains), add(effects_, h.labels() * chains);
      for (int64_t part = 0; part <= h.keys; ++part) {
        const int64_t at = (part * h.rows + r) * chains;
        MIXFLEET_EACH(c, chains) {
          log_density[c] += spreads_.log_prior[at + c];
          // Of a spread that is rounding no deviation can be told.
          const bool rounding = !(spreads_.size[at + c] > std::numeric_limits<T>::epsilon());
          if (rounding) log_density[c] = -std::numeric_limits<T>::infinity();
        }
      }
    }
  }

  // The log density's gradient in the coordinates, from that in the units' means and spreads.
  void pull(const T* x, const T* by_mean, const T* by_spread, T* gradient) {
    const int64_t n = h.units * chains;
    for (int64_t i = 0; i < h.types * chains; ++i) by_type_mean_[i] = by_type_spread_[i] = 0;
    for (int64_t r = 0; r < h.rows; ++r) {
      walk(r, x);
      begin(by_mean + r * n, by_spread + r * n);
      for (int64_t k = h.keys; k-- > 0;) back_from_labels(r, k, x, gradient);
      back_from_centre(r, x, gradient);
      back_to_spreads(r, gradient);
      for (int64_t t = 0; t < h.types; ++t) {
        const T share = h.type[t * h.rows + r] * h.centre_sd[r];
        MIXFLEET_EACH(c, chains) by_type_mean_[t * chains + c] += share * by_base_[c];
        MIXFLEET_EACH(c, chains) by_type_spread_[t * chains + c] += share * by_sd_[c];
      }
    }
    const T* type_mean = x + h.type_means() * chains;
    T *to_mean = gradient + h.type_means() * chains, *to_spread = to_mean + h.types * chains;
    for (int64_t i = 0; i < h.types * chains; ++i) {
      to_mean[i] = by_type_mean_[i] - type_mean[i];
      to_spread[i] = by_type_spread_[i] * h.type_scale[i / chains] * types_.slope[i] + types_.by_prior[i];
    }
  }

  T *value, *log_density;  // [coordinate, chain], [chain]
  T *mean, *spread;        // [row, lane]

 private:
  // Spreads in units of their scales, the ramp of models/priors/bijectors.py, and their half-normal priors.
  struct Ramps {
    T *size, *slope, *log_prior, *by_prior;

    void find(const T* x, int64_t count) {
      for (int64_t first = 0; first < count; first += M::kLanes) {
        V u = {}, log_ramp, log_share;
        std::memcpy(&u, x + first, least(count - first, M::kLanes) * sizeof(T));
        const Normal<T> normal(u);
        normal.ramp(u, log_ramp, log_share);
        const V ramp = M::exp(log_ramp).value, told = normal.log_lower - T(0.5) * ramp * ramp;
        const V owed = normal.hazard_lower - ramp * normal.lower;
        std::memcpy(size + first, &ramp, sizeof ramp), std::memcpy(slope + first, &normal.lower, sizeof ramp);
        std::memcpy(log_prior + first, &told, sizeof told), std::memcpy(by_prior + first, &owed, sizeof owed);
      }
    }
  };

  // Standard normal numbers, each with what all that is known weighs and pulls where it counts `factor` times. What is made
  // lies around the mean given that, in units of what that leaves open.
  struct Told {
    T *weight, *pulled, *precision, *made, *by;

    void make(const T* factor, const T* x, int64_t first, int64_t chains) {
      MIXFLEET_EACH(c, chains) {
        const int64_t i = first + c;
        precision[i] = 1 + factor[c] * factor[c] * weight[i];
        made[i] = factor[c] * pulled[i] / precision[i] + x[c] / std::sqrt(precision[i]);
      }
    }
    // From `by` to the coordinate and the factor, and, in their places, to what weighs and pulls. The precision also owes
    // its share of the volume.
    void back(const T* factor, const T* x, int64_t first, int64_t chains, T* by_factor, T* by_x) {
      MIXFLEET_EACH(c, chains) {
        const int64_t i = first + c;
        const T by_pulled = by[i] / precision[i];
        by_x[c] = by[i] / std::sqrt(precision[i]);
        const T by_precision = -(T(0.5) * (x[c] * by_x[c] + 1) + by_pulled * factor[c] * pulled[i]) / precision[i];
        by_factor[c] += by_pulled * pulled[i] + 2 * factor[c] * weight[i] * by_precision;
        pulled[i] = factor[c] * by_pulled, weight[i] = factor[c] * factor[c] * by_precision;
      }
    }
  };

  // Adds their prior, and the log of the volume that their coordinates take up.
  void add(const Told& told, int64_t count) {
    for (int64_t first = 0; first < count; first += M::kLanes) {
      V precision, made;
      std::memcpy(&precision, told.precision + first, sizeof precision), std::memcpy(&made, told.made + first, sizeof made);
      const V owed = T(-0.5) * (made * made + M::log(precision));
      const int64_t held = least(count - first, M::kLanes);
      for (int64_t i = 0; i < held; ++i) log_density[(first + i) % chains] += owed[i];
    }
  }

  // Calls `visit` with every unit that has a label of the key, the label's place among all keys', and unit and label
  // times chains.
  template <class Visit>
  MIXFLEET_INLINE void each(int64_t k, Visit visit) const {
    for (int64_t u = 0; u < h.units; ++u) {
      const int64_t label = label_[k * h.units + u];
      if (label >= 0) visit(u * chains, (before(k) + label) * chains);
    }
  }
  int64_t before(int64_t k) const {
    int64_t count = 0;
    for (int64_t i = 0; i < k; ++i) count += h.levels[i];
    return count;
  }
  // Where a row's effects of a key's first label stand among the coordinates; the next label's are `rows` behind.
  int64_t effect(int64_t k, int64_t label, int64_t r) const {
    return (h.effects() + (before(k) + label) * h.rows + r) * chains;
  }

  // Centre and effects of a row. `noise_[k]` is what is left open when the effects of so many keys are known.
  void walk(int64_t r, const T* x) {
    const int64_t n = h.units * chains, last = most(h.keys, 1) - 1;
    MIXFLEET_EACH(c, chains) base_[c] = h.centre[r], sd_[c] = 0;
    T untyped = 1;
    for (int64_t t = 0; t < h.types; ++t) {
      const T of = h.type[t * h.rows + r];
      untyped -= of;
      MIXFLEET_EACH(c, chains) {
        base_[c] += h.centre_sd[r] * of * x[(h.type_means() + t) * chains + c];
        sd_[c] += of * h.type_scale[t] * types_.size[t * chains + c];
      }
    }
    MIXFLEET_EACH(c, chains) sd_[c] = h.centre_sd[r] * (sd_[c] + untyped);
    for (int64_t k = 0; k < h.keys; ++k) {
      const T scale = h.scale[r] * h.used[k * h.rows + r];
      const T* size = spreads_.size + ((1 + k) * h.rows + r) * chains;
      MIXFLEET_EACH(c, chains) factor_[k * chains + c] = scale * size[c];
    }
    const T* own = spreads_.size + r * chains;
    for (int64_t u = 0; u < h.units; ++u) {
      const T open = 1 / h.site_precision[r * h.units + u], site = h.site_mean[r * h.units + u];
      MIXFLEET_EACH(c, chains) {
        const T size = h.scale[r] * own[c];
        noise_[last * n + u * chains + c] = open + size * size;
        told_[u * chains + c] = site - base_[c];
      }
    }
    for (int64_t k = last; k-- > 0;) {
      const T* factor = factor_ + (k + 1) * chains;
      for (int64_t i = 0; i < n; i += chains) {
        MIXFLEET_EACH(c, chains) noise_[k * n + i + c] = noise_[(k + 1) * n + i + c] + factor[c] * factor[c];
      }
    }
    tell_centre(r, x);
    for (int64_t i = 0; i < n; i += chains) {
      MIXFLEET_EACH(c, chains) left_[i + c] = told_[i + c] - sd_[c] * centre_.made[c];
    }
    for (int64_t k = 0; k < h.keys; ++k) tell_effects(r, k, x);
  }

  // From what all units tell; of labels of the first key each counts as one, its effect integrated out.
  void tell_centre(int64_t r, const T* x) {
    T *total = centre_.weight, *pulled = centre_.pulled;
    MIXFLEET_EACH(c, chains) total[c] = pulled[c] = 0;
    if (h.keys == 0) {
      for (int64_t u = 0; u < h.units; ++u) {
        MIXFLEET_EACH(c, chains) {
          const int64_t i = u * chains + c;
          const T weight = h.present[u] / noise_[i];
          total[c] += weight, pulled[c] += weight * told_[i];
        }
      }
    } else {
      sum_first_key();
      for (int64_t l = 0; l < h.levels[0] * chains; l += chains) {
        MIXFLEET_EACH(c, chains) {
          const T doubt = 1 + factor_[c] * factor_[c] * weight_[l + c];
          total[c] += weight_[l + c] / doubt, pulled[c] += pulled_[l + c] / doubt;
        }
      }
    }
    centre_.make(sd_, x + r * chains, 0, chains);
    std::memcpy(value + r * chains, centre_.made, (chains) * sizeof(T));
  }

  // What the units of each of the first key's labels weigh, and what they pull.
  void sum_first_key() {
    const int64_t labels = h.levels[0] * chains;
    clear(weight_, labels), clear(pulled_, labels);
    each(0, [&](int64_t i, int64_t l) {
      MIXFLEET_EACH(c, chains) {
        const T weight = h.present[i / chains] / noise_[i + c];
        weight_[l + c] += weight, pulled_[l + c] += weight * told_[i + c];
      }
    });
  }

  void tell_effects(int64_t r, int64_t k, const T* x) {
    const int64_t n = h.units * chains, first = before(k) * chains, last = first + h.levels[k] * chains;
    const T *factor = factor_ + k * chains, *noise = noise_ + k * n, *left = left_ + k * n;
    T *weight = effects_.weight, *pulled = effects_.pulled, *next = left_ + (k + 1) * n;
    for (int64_t i = first; i < last; ++i) weight[i] = pulled[i] = 0;
    each(k, [&](int64_t i, int64_t l) {
      MIXFLEET_EACH(c, chains) {
        weight[l + c] += 1 / noise[i + c], pulled[l + c] += left[i + c] / noise[i + c];
      }
    });
    for (int64_t l = first; l < last; l += chains) {
      const int64_t at = effect(k, (l - first) / chains, r);
      effects_.make(factor, x + at, l, chains);
      std::memcpy(value + at, effects_.made + l, (chains) * sizeof(T));
    }
    std::memcpy(next, left, (n) * sizeof(T));
    each(k, [&](int64_t i, int64_t l) {
      MIXFLEET_EACH(c, chains) next[i + c] -= factor[c] * effects_.made[l + c];
    });
  }

  // A row's means and spreads, as the units have them.
  void tell(int64_t r) {
    const int64_t n = h.units * chains;
    T *means = mean + r * n, *sizes = spread + r * n;
    const T* own = spreads_.size + r * chains;
    for (int64_t i = 0; i < n; i += chains) {
      MIXFLEET_EACH(c, chains) {
        means[i + c] = base_[c] + sd_[c] * centre_.made[c], sizes[i + c] = h.scale[r] * own[c];
      }
    }
    for (int64_t k = 0; k < h.keys; ++k) {
      each(k, [&](int64_t i, int64_t l) {
        MIXFLEET_EACH(c, chains) means[i + c] += factor_[k * chains + c] * effects_.made[l + c];
      });
    }
  }

  // What the units' means and spreads, and the priors, pull on directly. Padded units pull on nothing.
  void begin(const T* by_mean, const T* by_spread) {
    const int64_t n = h.units * chains;
    MIXFLEET_EACH(c, chains) by_base_[c] = by_spread_[c] = 0;
    clear(by_factor_, h.keys * chains);
    clear(by_noise_, most(h.keys, 1) * n);
    clear(by_left_, n);
    for (int64_t u = 0; u < h.units; ++u) {
      if (h.present[u] == 0) {
        clear(total_ + u * chains, chains);
        continue;
      }
      MIXFLEET_EACH(c, chains) {
          const int64_t i = u * chains + c;
        total_[i] = by_mean[i], by_base_[c] += by_mean[i], by_spread_[c] += by_spread[i];
      }
    }
    MIXFLEET_EACH(c, chains) {
      by_sd_[c] = centre_.made[c] * by_base_[c];
      centre_.by[c] = sd_[c] * by_base_[c] - centre_.made[c];
    }
  }

  // Of the effects of a key's labels.
  void back_from_labels(int64_t r, int64_t k, const T* x, T* gradient) {
    const int64_t n = h.units * chains, first = before(k) * chains, last = first + h.levels[k] * chains;
    const T *factor = factor_ + k * chains, *noise = noise_ + k * n, *left = left_ + k * n;
    T *by_factor = by_factor_ + k * chains, *by_noise = by_noise_ + k * n;
    clear(effects_.by + first, last - first);
    each(k, [&](int64_t i, int64_t l) {
      MIXFLEET_EACH(c, chains) effects_.by[l + c] += total_[i + c] - by_left_[i + c];
    });
    for (int64_t l = first; l < last; l += chains) {
      const int64_t at = effect(k, (l - first) / chains, r);
      MIXFLEET_EACH(c, chains) {
        const T sum = effects_.by[l + c], made = effects_.made[l + c];
        by_factor[c] += made * sum, effects_.by[l + c] = factor[c] * sum - made;
      }
      effects_.back(factor, x + at, l, chains, by_factor, gradient + at);
    }
    each(k, [&](int64_t i, int64_t l) {
      MIXFLEET_EACH(c, chains) {
        const T pulled = effects_.pulled[l + c] / noise[i + c];
        by_left_[i + c] += pulled;
        by_noise[i + c] -= (pulled * left[i + c] + effects_.weight[l + c] / noise[i + c]) / noise[i + c];
      }
    });
  }

  void back_from_centre(int64_t r, const T* x, T* gradient) {
    const int64_t n = h.units * chains;
    for (int64_t i = 0; i < n; i += chains) {
      MIXFLEET_EACH(c, chains) {
        by_told_[i + c] = by_left_[i + c];
        by_sd_[c] -= centre_.made[c] * by_left_[i + c], centre_.by[c] -= sd_[c] * by_left_[i + c];
      }
    }
    centre_.back(sd_, x + r * chains, 0, chains, by_sd_, gradient + r * chains);
    h.keys == 0 ? back_from_units() : back_from_first_key();
    for (int64_t i = 0; i < n; i += chains) {
      MIXFLEET_EACH(c, chains) by_base_[c] -= by_told_[i + c];
    }
  }

  void back_from_units() {
    for (int64_t u = 0; u < h.units; ++u) {
      MIXFLEET_EACH(c, chains) {
          const int64_t i = u * chains + c;
        const T weight = h.present[u] / noise_[i];
        by_told_[i] += centre_.pulled[c] * weight;
        by_noise_[i] -= (centre_.weight[c] + centre_.pulled[c] * told_[i]) * weight / noise_[i];
      }
    }
  }

  void back_from_first_key() {
    sum_first_key();
    for (int64_t l = 0; l < h.levels[0] * chains; l += chains) {
      MIXFLEET_EACH(c, chains) {
        const T weight = weight_[l + c], square = factor_[c] * factor_[c], doubt = 1 + square * weight;
        const T by_doubt = -(centre_.weight[c] * weight + centre_.pulled[c] * pulled_[l + c]) / (doubt * doubt);
        by_factor_[c] += 2 * factor_[c] * weight * by_doubt;
        weight_[l + c] = centre_.weight[c] / doubt + square * by_doubt, pulled_[l + c] = centre_.pulled[c] / doubt;
      }
    }
    each(0, [&](int64_t i, int64_t l) {
      MIXFLEET_EACH(c, chains) {
        const T weight = h.present[i / chains] / noise_[i + c];
        by_told_[i + c] += pulled_[l + c] * weight;
        by_noise_[i + c] -= (weight_[l + c] + pulled_[l + c] * told_[i + c]) * weight / noise_[i + c];
      }
    });
  }

  void back_to_spreads(int64_t r, T* gradient) {
    const int64_t n = h.units * chains, last = most(h.keys, 1) - 1;
    for (int64_t k = 0; k < last; ++k) {
      for (int64_t i = 0; i < n; i += chains) {
        MIXFLEET_EACH(c, chains) {
          by_noise_[(k + 1) * n + i + c] += by_noise_[k * n + i + c];
          by_factor_[(k + 1) * chains + c] += 2 * factor_[(k + 1) * chains + c] * by_noise_[k * n + i + c];
        }
      }
    }
    for (int64_t part = 0; part <= h.keys; ++part) {
      const int64_t at = (part * h.rows + r) * chains;
      const T scale = h.scale[r] * (part == 0 ? T(1) : h.used[(part - 1) * h.rows + r]);
      const T* by = part == 0 ? by_spread_ : by_factor_ + (part - 1) * chains;
      if (part == 0) {
        for (int64_t i = 0; i < n; i += chains) {
          MIXFLEET_EACH(c, chains) by_spread_[c] += 2 * scale * spreads_.size[at + c] * by_noise_[last * n + i + c];
        }
      }
      T* to = gradient + h.spreads() * chains + at;
      MIXFLEET_EACH(c, chains) to[c] = by[c] * scale * spreads_.slope[at + c] + spreads_.by_prior[at + c];
    }
  }

  const Hierarchy<T>& h;
  const int64_t chains;
  Ramps spreads_, types_;
  Told centre_, effects_;
  T *base_, *sd_, *by_base_, *by_sd_, *by_type_mean_, *by_type_spread_;
  T *told_, *by_told_, *left_, *by_left_, *total_;  // [unit]; what is left when so many keys' effects are known [key]
  T *noise_, *by_noise_;                            // [key, unit]
  T *factor_, *by_factor_, *by_spread_;
  T *weight_, *pulled_;                             // [label of the first key]
  int64_t* label_;                                  // [key, unit]
};

}  // namespace
}  // namespace mixfleet
