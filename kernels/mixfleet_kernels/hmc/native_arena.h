// Memory of a call.
#pragma once

#include <cstdint>
#include <memory>

namespace mixfleet {
namespace {

// Takes aligned arrays from one piece of memory; without memory it only counts.
class Arena {
 public:
  explicit Arena(char* memory) : memory_(memory) {}

  template <class Item>
  Item* take(int64_t count) {
    const int64_t begin = used_;
    used_ += (count * int64_t(sizeof(Item)) + 63) & ~int64_t(63);
    return memory_ ? reinterpret_cast<Item*>(memory_ + begin) : nullptr;
  }

  int64_t used() const { return used_; }

 private:
  char* memory_;
  int64_t used_ = 0;
};

// Not of the standard library, whose copies for newer processors might be merged into the others.
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a < b ? b : a; }

template <class T>
void clear(T* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = T(0);
}

// Memory of one thread, which grows to what the largest call so far needed.
inline char* memory(int64_t bytes) {
  static thread_local std::unique_ptr<char[]> kept;
  static thread_local int64_t size = 0;
  if (size < bytes) kept.reset(new char[bytes + 64]), size = bytes;
  return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(kept.get()) + 63) & ~uintptr_t(63));
}

}  // namespace
}  // namespace mixfleet
