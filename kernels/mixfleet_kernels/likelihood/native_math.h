// Vectors of lanes and their elementary functions.
//
// Every lane goes through the same instructions, so its result depends neither on its place nor on its neighbours,
// and a NaN stays in its lane. Series are Taylor's, long enough for the type, except where speed is at stake.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#define MIXFLEET_VECTOR_BYTES 64
#elif defined(__AVX__)
#define MIXFLEET_VECTOR_BYTES 32
#else
#define MIXFLEET_VECTOR_BYTES 16
#endif

// A call would spill the registers that hold the vectors and load every constant anew.
#define MIXFLEET_INLINED __attribute__((always_inline))
#define MIXFLEET_INLINE inline MIXFLEET_INLINED

namespace mixfleet {
namespace {  // internal linkage: this file is compiled once per instruction set and nothing of it may be merged

#if defined(__AVX512F__)
// By the first four bits of a mantissa: the inverse of about the middle of the numbers that have them, and minus its
// logarithm to the base 2. Inverses are chosen whose logarithms need sixteen bits, to 1e-9, so that their sum with an
// exponent is exact (Gal 1986), and at both ends without error, so that little is lost of logarithms near 0.
alignas(64) constexpr float kInverse[] = {
    1, 0.914157033f, 0.864569783f, 0.820895791f, 0.780706823f, 0.744427621f, 0.711450279f, 0.680379808f,
    0.652934313f, 0.627079904f, 0.603805482f, 0.581714749f, 0.561874449f, 0.542693615f, 0.524311721f, 0.5f,
};
alignas(64) constexpr float kLogarithm[] = {
    0, 0.129486084f, 0.209945679f, 0.284729004f, 0.357147217f, 0.425796509f, 0.491165161f, 0.555587769f,
    0.614990234f, 0.673278809f, 0.727844238f, 0.781616211f, 0.831680298f, 0.881790161f, 0.931503296f, 1,
};
// 2^(i/16).
alignas(64) constexpr float kPower[] = {
    1, 1.04427373f, 1.09050775f, 1.13878858f, 1.18920708f, 1.24185777f, 1.29683959f, 1.35425556f,
    1.41421354f, 1.47682619f, 1.54221082f, 1.61049032f, 1.68179286f, 1.75625217f, 1.8340081f, 1.91520655f,
};
#endif

template <class T>
struct Math {
  static constexpr bool kSingle = std::is_same_v<T, float>;
  using Int = std::conditional_t<kSingle, int32_t, int64_t>;
  static constexpr int kLanes = MIXFLEET_VECTOR_BYTES / sizeof(T);
  typedef T V __attribute__((vector_size(MIXFLEET_VECTOR_BYTES)));
  typedef Int I __attribute__((vector_size(MIXFLEET_VECTOR_BYTES)));

  static constexpr int kMantissa = kSingle ? 23 : 52;
  static constexpr Int kBias = kSingle ? 127 : 1023;
  static constexpr T kTiny = std::numeric_limits<T>::min();
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();
  // Added to a small number it leaves the nearest integer in the low bits.
  static constexpr T kRounder = kSingle ? T(12582912.0) : T(6755399441055744.0);
  static constexpr T kLog2 = T(0.693147180559945309417);
  // log 2 in two parts: an integer times the first is exact.
  static constexpr T kLog2High = kSingle ? T(0.693359375) : T(0.693145751953125);
  static constexpr T kLog2Low = kSingle ? T(-2.12194440054690583e-4) : T(1.42860682030941723212e-6);
  static constexpr T kLowestExponent = kSingle ? T(-87.3) : T(-708.3);
  static constexpr T kHighestExponent = kSingle ? T(88.9) : T(709.9);

  static MIXFLEET_INLINE V splat(T x) { return x - V{}; }
  static MIXFLEET_INLINE V abs(V x) { return V(I(x) & ~sign_bit()); }
  // x with its sign turned where y is negative.
  static MIXFLEET_INLINE V flip(V x, V y) { return V(I(x) ^ (I(y) & sign_bit())); }
  static MIXFLEET_INLINE I sign_bit() { return I{} + std::numeric_limits<Int>::min(); }
  // Both keep NaN. The intrinsics say in one instruction what compilers make two of.
#if defined(__AVX512F__)
  static MIXFLEET_INLINE V at_least(V x, T low) {
    if constexpr (kSingle) return V(_mm512_max_ps(__m512(splat(low)), __m512(x)));
    else return V(_mm512_max_pd(__m512d(splat(low)), __m512d(x)));
  }
  static MIXFLEET_INLINE V at_most(V x, T high) {
    if constexpr (kSingle) return V(_mm512_min_ps(__m512(splat(high)), __m512(x)));
    else return V(_mm512_min_pd(__m512d(splat(high)), __m512d(x)));
  }
#else
  static MIXFLEET_INLINE V at_least(V x, T low) { return x < low ? splat(low) : x; }
  static MIXFLEET_INLINE V at_most(V x, T high) { return x > high ? splat(high) : x; }
#endif

  static MIXFLEET_INLINE V sqrt(V x) {
#if defined(__AVX512F__)
    if constexpr (kSingle) return V(_mm512_sqrt_ps(__m512(x)));
    else return V(_mm512_sqrt_pd(__m512d(x)));
#else
    V root;
    for (int i = 0; i < kLanes; ++i) root[i] = std::sqrt(x[i]);
    return root;
#endif
  }

  struct Exponential {
    V value;
    V less_one;  // exp(x) - 1 without cancellation
  };

  static MIXFLEET_INLINE Exponential exp(V x) {
    const V held = at_most(at_least(x, kLowestExponent), kHighestExponent);
    const V shifted = held * (1 / kLog2) + kRounder;
    const V whole = shifted - kRounder;
    const V rest = (held - whole * kLog2High) - whole * kLog2Low;
    constexpr int kTerms = kSingle ? 7 : 13;
    V series = splat(inverse_factorial(kTerms));
    for (int k = kTerms - 1; k >= 2; --k) series = series * rest + inverse_factorial(k);
    const V grown = rest * rest * series + rest;
    const V power = V((I(shifted) << kMantissa) + (kBias << kMantissa));
    const V value = power * grown + power;
    return {x < kLowestExponent ? V{} : value, power * grown + (power - 1)};
  }

  // Of positive normal numbers.
  static MIXFLEET_INLINE V log(V x) {
    const I offset = I(x) - I(splat(T(0.70710678118654752440)));
    const I exponent = offset >> kMantissa;
    const V mantissa = V(I(x) - (exponent << kMantissa));
    const V whole = V(exponent + I(splat(kRounder))) - kRounder;
    const V ratio = (mantissa - 1) / (mantissa + 1);
    const V square = ratio * ratio;
    constexpr int kTerms = kSingle ? 5 : 11;
    V series = splat(T(2) / (2 * kTerms + 1));
    for (int k = kTerms - 1; k >= 1; --k) series = series * square + T(2) / (2 * k + 1);
    const V value = whole * kLog2High + (2 * ratio + (ratio * square * series + whole * kLog2Low));
    return x < kInfinity ? value : x;  // NaN and infinity as they are
  }

  // Of positive normal numbers; in float32 with AVX-512 by a Newton step in place of a division.
  static MIXFLEET_INLINE V inverse(V x) {
#if defined(__AVX512F__)
    if constexpr (kSingle) {
      const V rough = V(_mm512_rcp14_ps(__m512(x)));
      return rough + rough * (1 - x * rough);
    }
#endif
    return 1 / x;
  }

  // Logarithm and power to the base 2, which leave out what the natural ones spend on the base; in float32 without a
  // division: Moshier's Cephes, logf.c and exp2f.c, and with AVX-512 by table (Tang 1989 and 1990). The logarithm is of
  // positive normal numbers and need not keep NaN; no power is infinite.
  static MIXFLEET_INLINE V log2(V x) {
    if constexpr (kSingle) {
#if defined(__AVX512F__)
      const __m512i place = __m512i(I(x) >> (kMantissa - 4));
      const V mantissa = V(_mm512_getmant_ps(__m512(x), _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero));
      const V rest = mantissa * look_up(kInverse, place) - 1;  // from -1/32 to 1/16, where the series is minimax, 5e-9
      const V series = 1.442695058f + rest * (-0.7213668353f + rest * (0.4810130772f - 0.3408116354f * rest));
      return rest * series + (V(_mm512_getexp_ps(__m512(x))) + look_up(kLogarithm, place));
#else
      const I offset = I(x) - I(splat(T(0.70710678118654752440)));
      const I exponent = offset >> kMantissa;
      const V y = V(I(x) - (exponent << kMantissa)) - 1, square = y * y, fourth = square * square;
      const V low = (0.33333331174f - 0.24999993993f * y) + square * (0.20000714765f - 0.16668057665f * y);
      const V high = (0.14249322787f - 0.12420140846f * y) + square * (0.11676998740f - 0.11514610310f * y);
      const V series = low + fourth * (high + fourth * 0.070376836292f);
      const V natural = y + square * (y * series - 0.5f);
      return natural * (1 / kLog2) + (V(exponent + I(splat(kRounder))) - kRounder);
#endif
    } else {
      return log(x) * (1 / kLog2);
    }
  }

  // Of the product of any number and a logarithm.
  static MIXFLEET_INLINE V exp2(V steep, V log) {
    if constexpr (kSingle) {
#if defined(__AVX512F__)
      const V held = at_most(at_least(steep, T(-131072)), T(131072));  // so that `rest` is at most 1/2
      const V shifted = held * log + kRounder / 16, whole = shifted - kRounder / 16, rest = held * log - whole;
      const V power = look_up(kPower, __m512i(shifted));
      const V series = kLog2 + rest * (kLog2 * kLog2 / 2 + rest * (kLog2 * kLog2 * kLog2 / 6));
      return V(_mm512_scalef_ps(__m512(power + power * rest * series), __m512(at_most(whole, T(125)))));
#else
      const V held = at_most(at_least(steep * log, T(-126)), T(126)), shifted = held + kRounder;
      const V rest = held - (shifted - kRounder), square = rest * rest;
      const V low = 1 + 0.6931472028550421f * rest;
      const V middle = 0.2402264791363012f + 0.05550332471162809f * rest;
      const V high = (0.009618437357674640f + 0.001339887440266574f * rest) + square * 0.0001535336188319500f;
      const V power = V((I(shifted) << kMantissa) + (kBias << kMantissa));
      return power * (low + square * (middle + square * high));
#endif
    } else {
      return exp(at_most(steep * log, T(1022)) * kLog2).value;
    }
  }

  static MIXFLEET_INLINE V tanh(V x) {
    if constexpr (kSingle) {
      // Rational minimax approximation on [-9, 9], 2e-8 relative; beyond, tanh is 1 in float32.
      const V held = at_least(at_most(x, T(9.01)), T(-9.01));
      const V u = held * held;
      const V over = (((1.33177375859e-8f * u + 2.05827247108e-5f) * u + 3.49399931168e-3f) * u + 0.133796924734f) * u +
                     0.999999979398f;
      const V under = (((7.7615315243e-7f * u + 3.28302725868e-4f) * u + 2.58709518054e-2f) * u + 0.467130079311f) * u + 1;
      return held * over / under;
    } else {
      const V less_one = exp(-2 * abs(x)).less_one;
      return flip(-less_one / (2 + less_one), x);
    }
  }

 private:
#if defined(__AVX512F__)
  // By the low four bits of a place.
  static MIXFLEET_INLINE V look_up(const float* table, __m512i place) {
    return V(_mm512_permutexvar_ps(place, _mm512_load_ps(table)));
  }
#endif

  static constexpr T inverse_factorial(int n) {
    double product = 1;
    for (int i = 2; i <= n; ++i) product *= i;
    return T(1 / product);
  }
};

}  // namespace
}  // namespace mixfleet
