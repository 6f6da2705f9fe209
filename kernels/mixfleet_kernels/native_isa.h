// Which of the copies made per instruction set this processor runs.
#pragma once

namespace mixfleet {

enum class Isa { plain, v3, v4 };

inline Isa isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return v4 ? Isa::v4 : v3 ? Isa::v3 : Isa::plain;
#else
  return Isa::plain;
#endif
}

}  // namespace mixfleet

// Declares the copies of an entry that takes a pointer to `type`, and `function`, which calls this processor's.
#if defined(__x86_64__)
#define MIXFLEET_COPIES(result, function, entry, type)       \
  extern "C" result entry##_plain(const type*);              \
  extern "C" result entry##_v3(const type*);                 \
  extern "C" result entry##_v4(const type*);                 \
  static result function(const type& value) {                \
    switch (mixfleet::isa()) {                               \
      case mixfleet::Isa::v4: return entry##_v4(&value);     \
      case mixfleet::Isa::v3: return entry##_v3(&value);     \
      default: return entry##_plain(&value);                 \
    }                                                        \
  }
#else
#define MIXFLEET_COPIES(result, function, entry, type) \
  extern "C" result entry##_plain(const type*);        \
  static result function(const type& value) { return entry##_plain(&value); }
#endif
