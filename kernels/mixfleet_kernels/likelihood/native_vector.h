// One vector of lanes: which lanes and units it holds, and how their numbers come in and go out.
#pragma once

#include <cstring>

#include "native_math.h"

namespace mixfleet {
namespace {

template <class T>
class Vector {
  using M = Math<T>;
  static constexpr int kLanes = M::kLanes;

 public:
  using V = typename M::V;

  // The lanes from `first` on, at most those before `end`.
  void take(int64_t first, int64_t end, int64_t chains) {
    lane = first, held = end - first < kLanes ? end - first : kLanes;
    unit = lane / chains;
    units = (lane + held - 1) / chains - unit + 1;
    for (int64_t i = 0; i < kLanes; ++i) {
      own_[i] = place(i) / chains - unit;
      for (int64_t u = 1; u < units; ++u) of_unit[u][i] = own_[i] == u ? -1 : 0;
    }
  }

  // Where a lane's numbers stand in a row: those beyond the last are its copies.
  int64_t place(int64_t i) const { return lane + (i < held ? i : held - 1); }
  // Its unit among those of the vector.
  int64_t own(int64_t i) const { return own_[i]; }

  // A row's lanes; lanes beyond the last repeat it.
  MIXFLEET_INLINE V load(const T* row) const {
    V v;
    if (held == kLanes) {
      std::memcpy(&v, row + lane, sizeof v);
    } else {
      for (int64_t i = 0; i < kLanes; ++i) v[i] = row[place(i)];
    }
    return v;
  }

  MIXFLEET_INLINE void store(T* row, V v) const { std::memcpy(row + lane, &v, held * sizeof(T)); }

  // The lanes' vector of a value that each unit has once; `stride` leads to the next unit's.
  template <int kUnits>
  MIXFLEET_INLINE V spread(const T* value, int64_t stride) const {
    V v = M::splat(value[0]);
    const int64_t count = kUnits == 0 ? units : kUnits;
    for (int64_t u = 1; u < count; ++u) v = of_unit[u] ? M::splat(value[u * stride]) : v;
    return v;
  }

  int64_t lane = 0, held = 0;     // the first lane and how many there are
  int64_t unit = 0, units = 0;    // the first lane's unit, and how many the lanes belong to

 private:
  typename M::I of_unit[kLanes];  // mask of each one's lanes
  int64_t own_[kLanes];
};

}  // namespace
}  // namespace mixfleet
