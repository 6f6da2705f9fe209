// Adstock of one channel: what each week has of its own media and of the window of weeks before.
//
// Both ways hand each week's carried media, and its derivatives with respect to the adstock parameters, to a visitor.
#pragma once

#include "native_curves.h"

namespace mixfleet {
namespace {

constexpr int kBlock = 4;  // weeks that are summed side by side, in registers

// Any window: weights, then their derivatives, lag after lag.
template <class T, int kTangents>
struct Window {
  using V = typename Math<T>::V;
  const V* weights;
  int64_t lags;

  // Weeks from `first` to before `end`, which are whole blocks; there is media from `lags` weeks before `first` on.
  template <class Visit>
  MIXFLEET_INLINE void each_week(const V* media, int64_t first, int64_t end, Visit visit) const {
    for (int64_t t = first; t < end; t += kBlock) {
      V carried[1 + kTangents][kBlock];
      for (int b = 0; b < kBlock; ++b) {
        for (int j = 0; j <= kTangents; ++j) carried[j][b] = weights[j * lags] * media[t + b];
      }
      for (int64_t l = 1; l < lags; ++l) {
        for (int b = 0; b < kBlock; ++b) {
          const V earlier = media[t + b - l];
          for (int j = 0; j <= kTangents; ++j) carried[j][b] += weights[j * lags + l] * earlier;
        }
      }
      for (int b = 0; b < kBlock; ++b) {
        V tangent[kTangents == 0 ? 1 : kTangents] = {};
        for (int j = 0; j < kTangents; ++j) tangent[j] = carried[1 + j][b];
        visit(t + b, carried[0][b], tangent);
      }
    }
  }
};

// The window of powers of a decay, in seven products a week instead of two for every lag.
//
// The weeks are cut into blocks as long as the window, from the first week on, so that it covers the end of one block
// and the beginning of the next. Beginnings are summed forwards, ends backwards. Nothing is subtracted: once a spike
// has left the window, nothing is left of it.
template <class T, int kTangents = 1>
struct Recursion {
  using V = typename Math<T>::V;
  V decay;
  int64_t lags;
  V *power, *slope;  // [lags + 1]: decay^l and its derivative, which is nowhere without tangents
  V *end, *end_by;   // [lags + 1]: what the block before, from its i-th week on, amounts to at its last week; likewise

  void fill() {
    power[0] = Math<T>::splat(1), end[lags] = V{};
    for (int64_t l = 0; l < lags; ++l) power[l + 1] = decay * power[l];
    if constexpr (kTangents == 0) return;
    slope[0] = end_by[lags] = V{};
    for (int64_t l = 0; l < lags; ++l) slope[l + 1] = decay * slope[l] + power[l];
  }

  template <class Visit>
  MIXFLEET_INLINE void each_week(const V* media, int64_t first, int64_t last, Visit visit) const {
    for (int64_t block = first / lags * lags; block < last; block += lags) {
      V total = {}, by = {};
      for (int64_t i = lags - 1; i > 0; --i) {
        const V earlier = media[block - lags + i];
        end[i] = total += power[lags - 1 - i] * earlier;
        if constexpr (kTangents > 0) end_by[i] = by += slope[lags - 1 - i] * earlier;
      }
      total = by = V{};
      const int64_t weeks = last - block < lags ? last - block : lags;
      for (int64_t i = 0; i < weeks; ++i) {
        by = decay * by + total;
        total = decay * total + media[block + i];
        const V carried = total + power[i + 1] * end[i + 1];
        V tangent = {};
        if constexpr (kTangents > 0) tangent = (by + power[i + 1] * end_by[i + 1]) + slope[i + 1] * end[i + 1];
        visit(block + i, carried, &tangent);
      }
    }
  }
};

// Whether what a channel carries over is found by recursion, which is of media alone.
inline bool recursive(const Form& form) { return form.adstock == kGeometric && form.carried_first; }

// Media of some weeks as a curve has them, in place, and behind them its derivatives: a column each.
template <class Curve, class V>
MIXFLEET_INLINE void saturate(V* const* columns, int64_t first, int64_t end, const Curve& curve) {
  for (int64_t t = first; t < end; t += Curve::kWeeks) {
    const int64_t weeks = end - t < Curve::kWeeks ? end - t : Curve::kWeeks;
    each_shape(curve, columns[0] + t, weeks, [&](int64_t i, const auto& shape) MIXFLEET_INLINED {
      columns[0][t + i] = shape.value;
      for (int j = 0; j < Curve::kParameters; ++j) columns[1 + j][t + i] = shape.by[j];
    });
  }
}

// Carry-over, then the curve: hands each week's value and derivatives, by adstock and then by saturation parameters, to a
// visitor as a row.
template <int kTangents, class V, class Curve, class Carry, class Visit>
MIXFLEET_INLINE void each_saturated(const V* media, int64_t first, int64_t end, const Curve& curve, const Carry& carry,
                                    Visit visit) {
  V held[1 + kTangents][Curve::kWeeks];  // carried media and their derivatives
  int64_t weeks = 0;
  carry.each_week(media, first, end, [&](int64_t t, V carried, const V* tangent) MIXFLEET_INLINED {
    held[0][weeks] = carried;
    for (int j = 0; j < kTangents; ++j) held[1 + j][weeks] = tangent[j];
    if (++weeks < Curve::kWeeks && t + 1 < end) return;
    each_shape(curve, held[0], weeks, [&](int64_t i, const auto& shape) MIXFLEET_INLINED {
      V row[1 + kTangents + Curve::kParameters] = {shape.value};
      for (int j = 0; j < kTangents; ++j) row[1 + j] = shape.slope * held[1 + j][i];
      for (int j = 0; j < Curve::kParameters; ++j) row[1 + kTangents + j] = shape.by[j];
      visit(t + 1 - weeks + i, row);
    });
    weeks = 0;
  });
}

// Carry-over of what `saturate` made of media: hands the same to a visitor, one by one.
template <int kTangents, int kParameters, class V, class Carry, class Visit>
MIXFLEET_INLINE void each_carried(V* const* columns, int64_t first, int64_t end, const Carry& carry, Visit visit) {
  carry.each_week(columns[0], first, end, [&](int64_t t, V carried, const V* tangent) MIXFLEET_INLINED {
    visit(t, 0, carried);
    for (int j = 0; j < kTangents; ++j) visit(t, 1 + j, tangent[j]);
  });
  for (int i = 0; i < kParameters; ++i) {
    carry.each_week(columns[1 + i], first, end, [&](int64_t t, V carried, const V*) MIXFLEET_INLINED {
      visit(t, 1 + kTangents + i, carried);
    });
  }
}

}  // namespace
}  // namespace mixfleet
