// The threads of a compiled program, shared between the pieces of one call.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace mixfleet {
namespace {

// Pieces of one call, each taken by whoever comes first.
class Pieces {
 public:
  Pieces(int64_t count, void (*work)(void*, int64_t), void* context) : count_(count), work_(work), context_(context) {}

  // Until none is left to take.
  void work() {
    for (int64_t i; (i = next_++) < count_; ++done_) work_(context_, i);
  }

  // For those that others took and still have.
  void wait() const {
    while (done_ < count_) std::this_thread::yield();
  }

 private:
  const int64_t count_;
  void (*const work_)(void*, int64_t);
  void* const context_;
  std::atomic<int64_t> next_{0}, done_{0};
};

// Calls `work` with each piece's number, here and in threads that are idle; which does what must change nothing.
inline void share(xla::ffi::ThreadPool& threads, int64_t count, void (*work)(void*, int64_t), void* context) {
  // Shared: a thread may come when all is done and the call is over, and finds no piece.
  const auto pieces = std::make_shared<Pieces>(count, work, context);
  for (int64_t i = 1; i < std::min(count, threads.num_threads()); ++i) threads.Schedule([pieces] { pieces->work(); });
  pieces->work();
  pieces->wait();
}

}  // namespace
}  // namespace mixfleet
