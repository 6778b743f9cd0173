#include "cpu/crew.h"

#include <chrono>

namespace oribi {
namespace {

/* How long a thread looks for work before it sleeps. Longer than what lies between two products of a token: norms, the attention of one
   row and the calls from Java, some 10 us in all; and a waste of no more than this when a text ends. */
constexpr std::chrono::microseconds kAwake(200);

thread_local int32_t index_of_thread = 0;

/* Gives way to the other thread of the core. */
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Crew::Crew(int32_t threads) : zones_(new Zone[static_cast<size_t>(threads)]) {
  threads_.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int32_t i = 1; i < threads; i++) threads_.emplace_back([this, i] { serve(i); });
  } catch (...) {
    end();
    throw;
  }
}

Crew::~Crew() { end(); }

void Crew::end() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ends_.store(true);
  }
  woken_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

int32_t Crew::index() { return index_of_thread; }

void Crew::take(int64_t zone) {
  Zone& z = zones_[zone];
  for (int64_t i; (i = z.next.fetch_add(1, std::memory_order_relaxed)) < z.end;) work_(argument_, i);
}

/* Its own zone first, then what is left of the others. */
void Crew::take() {
  const int64_t zones = static_cast<int64_t>(threads_.size()) + 1;
  for (int64_t i = 0; i < zones; i++) take((index_of_thread + i) % zones);
}

/* A thread says that it is inside and then looks whether the job is open; this one closes it and then looks who is inside. All four
   are sequentially consistent, so that nobody works on a job that has ended. */
void Crew::run(int64_t count, void (*work)(void*, int64_t), void* argument) {
  work_ = work;
  argument_ = argument;
  const int64_t zones = static_cast<int64_t>(threads_.size()) + 1;
  for (int64_t i = 0; i < zones; i++) {
    zones_[i].next.store(count * i / zones, std::memory_order_relaxed);
    zones_[i].end = count * (i + 1) / zones;
  }
  open_.store(true);
  jobs_.fetch_add(1);
  if (sleepers_.load() > 0) {
    { std::lock_guard<std::mutex> lock(mutex_); }
    woken_.notify_all();
  }
  take();
  open_.store(false);
  for (int32_t tries = 0; inside_.load() > 0; tries++) {
    if (tries < 4096) {
      pause();
    } else {
      std::this_thread::yield(); /* the thread that holds the last piece may want this core */
    }
  }
}

/* Until there is a job other than the `seen`; false: the crew ends. */
bool Crew::wait(uint64_t seen) {
  const auto until = std::chrono::steady_clock::now() + kAwake;
  do {
    for (int i = 0; i < 64; i++) {
      if (jobs_.load(std::memory_order_relaxed) != seen) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < until && !ends_.load(std::memory_order_relaxed));
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1);
  woken_.wait(lock, [&] { return jobs_.load() != seen || ends_.load(); });
  sleepers_.fetch_sub(1);
  return !ends_.load();
}

void Crew::serve(int32_t index) {
  index_of_thread = index;
  for (uint64_t seen = 0; wait(seen);) {
    seen = jobs_.load();
    inside_.fetch_add(1);
    if (open_.load()) take();
    inside_.fetch_sub(1);
  }
}

}  // namespace oribi
