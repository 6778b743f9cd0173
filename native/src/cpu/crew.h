/*
 * Threads that stay awake between calls that follow each other within microseconds, as in decoding: a token of a small model takes a
 * hundred products of some 30 us each, and OpenMP's threads, which sleep between them so that those of the library of products
 * find the cores free, take as long as that to wake.
 *
 * Each thread begins in a part of its own and goes through it in order: threads that took pieces of a matrix in turn read it at 39
 * GB/s where two parts gave 60 (AMD EPYC, 2 cores, pieces of 64 kB), since each jump stops the prefetching of memory.
 * run() never waits for a thread that has not begun: one that sleeps, or that the system holds back, costs nothing but its help.
 */
#ifndef ORIBI_CPU_CREW_H
#define ORIBI_CPU_CREW_H

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace oribi {

class Crew {
 public:
  /* `threads` with the one that calls run(). Throws std::system_error or std::bad_alloc. */
  explicit Crew(int32_t threads);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  /* work(argument, i) for each i in [0, count), in any order, by this thread and those of the crew; returns when all is done.
     One caller at a time. */
  void run(int64_t count, void (*work)(void* argument, int64_t i), void* argument);

  /* Of the running thread, below `threads`; 0 for the one that called run(). */
  static int32_t index();

 private:
  /* A part of the job that one thread does in order, until others have done theirs and help. */
  struct alignas(64) Zone {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  void serve(int32_t index);
  bool wait(uint64_t seen);
  void take();
  void take(int64_t zone);
  void end();

  std::atomic<uint64_t> jobs_{0}; /* begun so far */
  std::atomic<bool> open_{false}; /* the job may be entered */
  std::atomic<int32_t> inside_{0};
  std::unique_ptr<Zone[]> zones_; /* one a thread */
    void (*work_)(void*, int64_t) = nullptr;
  void* argument_ = nullptr;

  std::atomic<bool> ends_{false};
  std::atomic<int32_t> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable woken_;
  std::vector<std::thread> threads_;
};

}  // namespace oribi
#endif
