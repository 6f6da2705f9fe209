// What a call says of a model: sizes and form as numbers, then arrays in their order.
#pragma once

#include "native.h"

namespace mixfleet {
namespace {

// The arrays of a call in their order.
class Arrays {
 public:
  explicit Arrays(void* const* arrays) : next_(arrays) {}

  template <class Item>
  void take(Item*& one) {
    one = static_cast<Item*>(*next_++);
  }
  template <class Item>
  void take(const Item*& one) {
    one = static_cast<const Item*>(*next_++);
  }
  template <class First, class... Rest>
  void take(First& first, Rest&... rest) {
    take(first);
    if constexpr (sizeof...(rest) > 0) take(rest...);
  }

 private:
  void* const* next_;
};

// Sizes: weeks, channels, columns, units, chains, window, dimension, prior columns, and of lift tests virtual weeks,
// those with a weight, and rows. Form: first effect, first noise, noise's family, distances between weeks, first
// correlation, its family, and whether the strength is the mean, and priors are on measures. Then how many slots adstocks
// have, and all, and how many coefficients are sampled; of each slot and channel the row, and the family; that of each
// channel's strength; of each sampled coefficient the row, and the family; the forms of the channels, and of their columns.
template <class T>
void describe(const int64_t* told, Model<T>& m) {
  for (int64_t* size : {&m.weeks, &m.channels, &m.columns, &m.units, &m.chains, &m.window, &m.dimension, &m.prior_columns,
                        &m.virtual_weeks, &m.lifted, &m.rows, &m.effect_first, &m.noise_first, &m.noise_family,
                        &m.gaps, &m.correlation_first, &m.correlation_family}) {
    *size = *told++;
  }
  for (bool* flag : {&m.strength_is_mean, &m.measured}) *flag = *told++ != 0;
  m.tangents = *told++, m.shapes = *told++, m.sampled = *told++;
  m.shape_row = told, told += m.shapes * m.channels;
  m.shape_family = told, told += m.shapes * m.channels;
  m.strength_family = told, told += m.channels;
  m.sampled_row = told, told += m.sampled;
  m.sampled_family = told, told += m.sampled;
  m.forms = reinterpret_cast<const Form*>(told);
}

template <class T>
void take_data(Arrays& arrays, Model<T>& m) {
  arrays.take(m.media, m.kpi, m.weight, m.basis, m.variance, m.active, m.hyper, m.measure, m.strength_unit);
  arrays.take(m.lift_media, m.lift_weight, m.lift_channel, m.lift_test, m.lift_estimate);
  arrays.take(m.gap_length, m.gap_spans, m.gap_gram, m.along);
}

}  // namespace
}  // namespace mixfleet
