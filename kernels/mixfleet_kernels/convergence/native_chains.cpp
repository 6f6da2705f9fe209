// The diagnostics themselves, one quantity after another.
//
// Compiled once per instruction set, which MIXFLEET_ISA names; native.cpp picks one at run time. Everything but the
// two entries at the end has internal linkage, so that no code for a newer processor is merged into the others.
//
// One sort gives ranks, quantiles and, merged outwards from the median, the ranks of the folded draws. Scores stand
// by draw and then by half chain, so that a lag is one shift of the whole array, whatever half chain a draw is of.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>

#include "native.h"

#if defined(__AVX__)
#define MIXFLEET_VECTOR_BYTES 32  // of wider ones most would straddle two lines of the cache
#else
#define MIXFLEET_VECTOR_BYTES 16
#endif

namespace mixfleet {
namespace {

constexpr int kLags = 8;  // found side by side: chains forget within a few such blocks
constexpr int kDigit = 11;
constexpr int64_t kBuckets = int64_t(1) << kDigit;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kTail = 0.05;

typedef double Vector __attribute__((vector_size(MIXFLEET_VECTOR_BYTES)));
constexpr int kWidth = sizeof(Vector) / sizeof(double);

Vector load(const double* from) {
  Vector loaded;
  std::memcpy(&loaded, from, sizeof(loaded));
  return loaded;
}

double horner(const double (&coefficients)[8], double x) {
  double sum = coefficients[7];
  for (int i = 6; i >= 0; --i) sum = sum * x + coefficients[i];
  return sum;
}

// Quantile of the standard normal for p in [1e-10, 0.5], to 1e-16 relative.
// Wichura (1988), Algorithm AS 241: The percentage points of the normal distribution. doi:10.2307/2347330.
double normal_quantile(double p) {
  constexpr double kCentre[2][8] = {
      {3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
       4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3},
      {1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3, 2.1213794301586595867e4,
       3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3}};
  constexpr double kSide[2][8] = {
      {1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
       1.27045825245236838258, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4},
      {1.0, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1, 1.48103976427480074590e-1,
       1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9}};
  const double q = p - 0.5;
  if (q >= -0.425) {
    const double r = 0.180625 - q * q;
    return q * horner(kCentre[0], r) / horner(kCentre[1], r);
  }
  const double r = std::sqrt(-std::log(p)) - 1.6;
  return -horner(kSide[0], r) / horner(kSide[1], r);
}

template <class T>
struct Key {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  static constexpr int kBits = 8 * sizeof(Bits);
  static constexpr Bits kSign = Bits(1) << (kBits - 1);

  Bits bits;       // in the order of the values
  uint32_t place;  // among the scores

  static Bits of(T value) {
    value += T(0);  // the two zeros tie
    Bits bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits & kSign ? ~bits : bits | kSign;
  }
  double value() const {
    const Bits plain = bits & kSign ? bits ^ kSign : ~bits;
    T value;
    std::memcpy(&value, &plain, sizeof(value));
    return value;
  }
};

struct Distance {
  uint64_t bits;
  uint32_t place;
};

template <class T>
class Judge {
  using K = Key<T>;
  static constexpr int kPasses = (K::kBits + kDigit - 1) / kDigit;

 public:
  explicit Judge(const Chains<T>& given)
      : chains(given), half(given.half), lanes(2 * given.chains), total(half * lanes) {
    size_t bytes = 0;
    lay_out([&bytes](auto*& array, int64_t count) { bytes += padded(count * sizeof(*array)); });
    memory = static_cast<char*>(std::malloc(bytes + kLine));
    if (!memory) return;
    char* free = memory + (-reinterpret_cast<uintptr_t>(memory) & (kLine - 1));
    lay_out([&free](auto*& array, int64_t count) {
      array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(free);
      free += padded(count * sizeof(*array));
    });
    std::memset(scores + total, 0, (kLags * lanes + kWidth) * sizeof(*scores));
    std::memset(marks, 0, words() * sizeof(*marks));
    tabulate();
  }
  ~Judge() { std::free(memory); }
  Judge(const Judge&) = delete;
  Judge& operator=(const Judge&) = delete;

  bool run() {
    if (!memory) return false;
    for (int64_t i = 0; i < chains.quantities; ++i) {
      if (sort(chains.values + i * chains.draws * chains.chains)) {
        const double bulk = judge_bulk(&chains.ess_bulk[i]);
        const double folded = judge_folded();
        // Two values, half of the draws each, fold to a constant, which has none: then bulk alone decides.
        chains.rhat[i] = chains.chains == 1 ? kNan : folded > bulk ? folded : bulk;
        const double low = judge_tail(0, not_above(kTail));
        const double high = judge_tail(not_above(1.0 - kTail), total);
        chains.ess_tail[i] = low < high ? low : high;
      } else {
        chains.rhat[i] = chains.ess_bulk[i] = chains.ess_tail[i] = kNan;
      }
    }
    return true;
  }

 private:
  static constexpr size_t kLine = 64;
  static size_t padded(size_t bytes) { return (bytes + kLine - 1) & ~(kLine - 1); }
  int64_t words() const { return (total + kLags * lanes) / 64 + 3; }

  template <class Take>
  void lay_out(Take take) {
    take(sorted, total);
    take(spare, total);
    take(distances, total);
    take(folded, total);
    take(scores, total + kLags * lanes + kWidth);
    take(table, 2 * total - 1);
    take(marks, words());
    take(means, lanes);
    take(squares, lanes);
    take(marked, lanes);
    take(buckets, kPasses * kBuckets);
  }

  // Normal score by the first plus the last position of a run of ties: twice its average rank, less two.
  void tabulate() {
    const int64_t last = 2 * total - 2;
    for (int64_t i = 0; i < total - 1; ++i) {
      table[i] = normal_quantile((0.5 * i + 0.625) / (total + 0.25));
      table[last - i] = -table[i];
    }
    table[total - 1] = 0.0;
  }

  // Puts the draws into ascending order; false when one is not finite or all are the same.
  bool sort(const T* values) {
    std::memset(buckets, 0, kPasses * kBuckets * sizeof(*buckets));
    bool finite = true;
    K* next = sorted;
    for (int64_t second = 0; second < 2; ++second) {
      for (int64_t draw = 0; draw < half; ++draw) {
        const uint32_t place = draw * lanes + second * chains.chains;
        for (int64_t chain = 0; chain < chains.chains; ++chain, ++next, ++values) {
          finite &= std::abs(*values) <= std::numeric_limits<T>::max();
          *next = {K::of(*values), uint32_t(place + chain)};
          for (int pass = 0; pass < kPasses; ++pass) ++buckets[pass * kBuckets + digit(*next, pass)];
        }
      }
    }
    if (!finite) return false;
    for (int pass = 0; pass < kPasses; ++pass) {
      uint32_t* const ends = buckets + pass * kBuckets;
      if (ends[digit(*sorted, pass)] == total) continue;
      uint32_t start = 0;
      for (int64_t i = 0; i < kBuckets; ++i) {
        const uint32_t held = ends[i];
        ends[i] = start;
        start += held;
      }
      for (int64_t i = 0; i < total; ++i) spare[ends[digit(sorted[i], pass)]++] = sorted[i];
      K* const done = spare;
      spare = sorted;
      sorted = done;
    }
    return sorted[0].bits != sorted[total - 1].bits;
  }

  static int64_t digit(const K& key, int pass) { return (key.bits >> (pass * kDigit)) & (kBuckets - 1); }

  // Gives every draw the normal score of its average rank.
  template <class Item, class Tied>
  void score(const Item* items, Tied tied) {
    for (int64_t first = 0, next; first < total; first = next) {
      for (next = first + 1; next < total && tied(items[first], items[next]);) ++next;
      const double shared = table[first + next - 1];
      scores[items[first].place] = shared;
      for (int64_t i = first + 1; i < next; ++i) scores[items[i].place] = shared;
    }
  }

  // Centres the scores of each half chain, and leaves its mean and sum of squares.
  void centre() {
    for (int64_t i = 0; i < lanes; ++i) means[i] = squares[i] = 0.0;
    double* const mean = means;
    double* const square = squares;
    for (int64_t draw = 0; draw < half; ++draw) {
      const double* const row = scores + draw * lanes;
      for (int64_t i = 0; i < lanes; ++i) mean[i] += row[i];
    }
    for (int64_t i = 0; i < lanes; ++i) mean[i] /= half;
    for (int64_t draw = 0; draw < half; ++draw) {
      double* const row = scores + draw * lanes;
      for (int64_t i = 0; i < lanes; ++i) {
        row[i] -= mean[i];
        square[i] += row[i] * row[i];
      }
    }
  }

  double rhat() const {
    double sum = 0.0;
    for (int64_t i = 0; i < lanes; ++i) sum += squares[i];
    const double within = sum / lanes / (half - 1);
    return std::sqrt((half * variance_of_means() / within + half - 1) / half);
  }

  double variance_of_means() const {
    double mean = 0.0, sum = 0.0;
    for (int64_t i = 0; i < lanes; ++i) mean += means[i];
    mean /= lanes;
    for (int64_t i = 0; i < lanes; ++i) sum += (means[i] - mean) * (means[i] - mean);
    return sum / (lanes - 1);
  }

  double judge_bulk(double* ess) {
    score(sorted, [](const K& a, const K& b) { return a.bits == b.bits; });
    centre();
    *ess = effective([this](int64_t first, double* sums) { multiply_lagged(first, sums); });
    return rhat();
  }

  // R-hat of the distance from the median, which sees half chains that differ in spread.
  double judge_folded() {
    const double median = quantile(0.5);
    for (int64_t i = 0; i < total; ++i) {
      const double distance = std::abs(sorted[i].value() - median);
      std::memcpy(&distances[i], &distance, sizeof(distance));  // bits of a positive number are in its order
    }
    // The distances fall, then rise: two runs of equal length, merged from the median outwards and from both ends
    // inwards at once. Two chains of steps run side by side, and no branch could go either way.
    int64_t left = total / 2 - 1, right = left + 1, first = 0, last = total - 1;
    for (int64_t i = 0; i < total / 2; ++i) {
      const int64_t near_left = distances[left] <= distances[right];
      const int64_t nearest = right ^ ((left ^ right) & -near_left);
      folded[i] = {distances[nearest], sorted[nearest].place};
      left -= near_left;
      right += 1 - near_left;
      const int64_t far_right = distances[last] >= distances[first];
      const int64_t farthest = first ^ ((first ^ last) & -far_right);
      folded[total - 1 - i] = {distances[farthest], sorted[farthest].place};
      last -= far_right;
      first += 1 - far_right;
    }
    score(folded, [](const Distance& a, const Distance& b) { return a.bits == b.bits; });
    centre();
    return rhat();
  }

  // Effective sample size of whether a draw is among those from position `first` up to `end`.
  double judge_tail(int64_t first, int64_t end) {
    // With enough ties at the top no draw lies above the 95 % quantile: nothing to estimate, each draw counts.
    if (end - first == 0 || end - first == total) return total;
    for (int64_t i = 0; i < lanes; ++i) marked[i] = 0;
    for (int64_t i = first; i < end; ++i) {
      const uint32_t place = sorted[i].place;
      marks[place / 64] |= uint64_t(1) << (place % 64);
      ++marked[place % lanes];
    }
    int64_t squares = 0;
    for (int64_t i = 0; i < lanes; ++i) {
      means[i] = double(marked[i]) / half;
      squares += marked[i] * marked[i];
    }
    int64_t overlap = 2 * squares;
    const double ess = effective([&](int64_t lag, double* sums) { count_lagged(lag, squares, overlap, sums); });
    for (int64_t i = first; i < end; ++i) marks[sorted[i].place / 64] = 0;
    return ess;
  }

  // Sum over all half chains of the products of scores that are `first`, `first` + 1, ... draws apart.
  void multiply_lagged(int64_t first, double* sums) const {
    Vector found[kLags] = {};
    const int64_t size = (half - first) * lanes;
    for (int64_t i = 0; i < size; i += kWidth) {
      const Vector now = load(scores + i);
      const double* later = scores + first * lanes + i;
      for (int lag = 0; lag < kLags; ++lag, later += lanes) found[lag] += now * load(later);
    }
    for (int lag = 0; lag < kLags; ++lag) {
      sums[lag] = 0.0;
      for (int i = 0; i < kWidth; ++i) sums[lag] += found[lag][i];
    }
  }

  // The same of marks less their mean, exact but for the last step. `squares` is the sum of the squared number of
  // marks of each half chain; `overlap` is the sum of that number times those in its draws but the last `lag` - 1
  // and in its draws but the first `lag` - 1, and goes on to the next call.
  void count_lagged(int64_t first, int64_t squares, int64_t& overlap, double* sums) const {
    for (int64_t lag = first; lag < first + kLags && lag < half; ++lag) {
      for (int64_t i = 0; lag > 0 && i < lanes; ++i) {
        overlap -= marked[i] * (is_marked((lag - 1) * lanes + i) + is_marked((half - lag) * lanes + i));
      }
      const int64_t shift = lag * lanes, size = (total - shift + 63) / 64;
      const uint64_t* const later = marks + shift / 64;
      const int bits = shift % 64;
      int64_t both = 0;
      for (int64_t i = 0; i < size; ++i) {
        both += __builtin_popcountll(marks[i] & (later[i] >> bits | later[i + 1] << 1 << (63 - bits)));
      }
      const double n = half;
      sums[lag - first] = both - (overlap - (half - lag) * (squares / n)) / n;
    }
  }

  int64_t is_marked(int64_t place) const { return marks[place / 64] >> (place % 64) & 1; }

  // Effective sample size by Geyer's initial positive, monotone sequence of pairs of autocorrelations, where
  // `lagged` gives the sums of products for a block of lags, block after block: most sequences end in the first few.
  template <class Lagged>
  double effective(Lagged lagged) const {
    double sums[kLags];
    lagged(0, sums);
    const double variance = sums[0] / total;
    const double within = variance * half / (half - 1);
    const double plus = variance + variance_of_means();
    const auto correlation = [&](int64_t lag) { return 1.0 - (within - sums[lag % kLags] / total) / plus; };
    const int64_t last = half > 3 ? (half - 3) / 2 : 0;
    double lowest = kInfinity, monotone = 0.0;
    for (int64_t pair = 0;; ++pair) {
      if (pair > 0 && 2 * pair % kLags == 0) lagged(2 * pair, sums);
      const double even = pair == 0 ? 1.0 : correlation(2 * pair);
      const double sum = even + correlation(2 * pair + 1);
      if (sum <= 0.0 || pair >= last) {
        // The pair that ends the sequence adds its even lag once, unless that lag is what made the pair negative.
        const double final = sum >= 0.0 || even > 0.0 ? even : 0.0;
        const double time = 2.0 * monotone - 1.0 + final, least = 1.0 / std::log10(double(total));
        return total / (time > least ? time : least);
      }
      lowest = sum < lowest ? sum : lowest;
      monotone += lowest;
    }
  }

  // By linear interpolation, rounded as numpy rounds it.
  double quantile(double probability) const {
    const double exact = (total - 1) * probability;
    const int64_t below = exact;
    const double weight = exact - below, low = sorted[below].value(), high = sorted[below + 1].value();
    return weight < 0.5 ? low + (high - low) * weight : high - (high - low) * (1.0 - weight);
  }

  // How many draws are at most the quantile.
  int64_t not_above(double probability) const {
    const double limit = quantile(probability);
    int64_t count = (total - 1) * probability;
    while (count < total && sorted[count].value() <= limit) ++count;
    return count;
  }

  const Chains<T>& chains;
  const int64_t half, lanes, total;  // draws of a half chain, half chains, all draws
  char* memory;
  K *sorted, *spare;
  double *scores, *table, *means, *squares;
  uint64_t* distances;
  Distance* folded;
  uint64_t* marks;  // one bit per score
  int64_t* marked;  // how many marks each half chain has
  uint32_t* buckets;
};

}  // namespace
}  // namespace mixfleet

#define MIXFLEET_JOIN(name, isa) name##_##isa
#define MIXFLEET_ENTRY(name, isa) MIXFLEET_JOIN(name, isa)

// False without memory.
extern "C" bool MIXFLEET_ENTRY(mixfleet_convergence_f32, MIXFLEET_ISA)(const mixfleet::Chains<float>* chains) {
  return mixfleet::Judge<float>(*chains).run();
}

extern "C" bool MIXFLEET_ENTRY(mixfleet_convergence_f64, MIXFLEET_ISA)(const mixfleet::Chains<double>* chains) {
  return mixfleet::Judge<double>(*chains).run();
}
