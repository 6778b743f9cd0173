/* A timeline of what a GPU does and does not do during training steps.

   Loaded into a program by CUDA's own hook for tools, it records the beginning and the end of every kernel, copy and fill through
   CUPTI, also of those inside a CUDA graph. A step is what lies between the ends of two updates of AdamW. When the program ends, the report of
   the fastest half of the steps goes to standard error: how long a step was, how much of that at least one kernel or copy ran,
   the gaps by their length, and the longest gaps with what stood before and after them.

     g++ -O2 -shared -fPIC native/tools/gaps.cpp -I$CUDA_HOME/include -L$CUDA_HOME/lib64 -lcupti -o libgaps.so
     CUDA_INJECTION64_PATH=$PWD/libgaps.so oribi bench step --device cuda --shape llama-3.2-1b --batch 4 --seq 512

   Tracing makes kernels start a little later, so the gaps that it shows are an upper bound of those without it. */
#include <cupti.h>
#include <cxxabi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Span {
  uint64_t begin, end; /* ns */
  std::string name;
};

std::vector<Span> spans;
std::mutex mutex;

constexpr size_t kBuffer = 8 << 20;

void check(CUptiResult status, const char* what) {
  if (status == CUPTI_SUCCESS) return;
  const char* text = "";
  cuptiGetResultString(status, &text);
  std::fprintf(stderr, "gaps: %s: %s\n", what, text);
}

/* CUPTI gives mangled names; of void oribi::(anonymous namespace)::lora::kernel<...>(...) this leaves lora::kernel. */
std::string short_name(const char* mangled) {
  int status = 0;
  char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  std::string name = status == 0 ? text : mangled;
  std::free(text);
  for (const char* part : {"(anonymous namespace)::", "oribi::", "void "}) {
    for (size_t at; (at = name.find(part)) != std::string::npos;) name.erase(at, std::strlen(part));
  }
  return name.substr(0, std::min<size_t>(name.find_first_of("<("), 72));
}

void CUPTIAPI give_buffer(uint8_t** buffer, size_t* size, size_t* records) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(8, kBuffer));
  *size = kBuffer;
  *records = 0;
}

void CUPTIAPI take_buffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
  const std::lock_guard<std::mutex> lock(mutex);
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
    if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
      const auto* k = reinterpret_cast<const CUpti_ActivityKernel10*>(record);
      spans.push_back({k->start, k->end, short_name(k->name)});
    } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
      const auto* m = reinterpret_cast<const CUpti_ActivityMemcpy6*>(record);
      spans.push_back({m->start, m->end, "copy of " + std::to_string(m->bytes) + " bytes"});
    } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
      const auto* m = reinterpret_cast<const CUpti_ActivityMemset4*>(record);
      spans.push_back({m->start, m->end, "memset"});
    }
  }
  std::free(buffer);
}

struct Gap {
  uint64_t length;
  size_t before, after; /* spans */
};

struct Step {
  uint64_t wall = 0, busy = 0;
  size_t count = 0;
  std::vector<Gap> gaps;
};

/* The union of all spans of [first, last], which are in the order of their beginnings; the step begins when the span before ended. */
Step measure(size_t first, size_t last, uint64_t begin) {
  Step step;
  uint64_t reached = begin;
  size_t by = first > 0 ? first - 1 : first;
  for (size_t i = first; i <= last; i++) {
    const Span& s = spans[i];
    if (s.begin > reached) step.gaps.push_back({s.begin - reached, by, i});
    if (s.end > reached) {
      step.busy += s.end - std::max(reached, s.begin);
      reached = s.end;
      by = i;
    }
  }
  step.wall = reached - begin;
  step.count = last - first + 1;
  return step;
}

void print(const std::vector<Step>& steps) {
  static const uint64_t kLimits[] = {1000, 2000, 5000, 10000, 50000, ~uint64_t{0}};
  static const char* kNames[] = {"under 1 us", "1 to 2 us", "2 to 5 us", "5 to 10 us", "10 to 50 us", "over 50 us"};
  double wall = 0, busy = 0, count = 0, sum[6] = {}, number[6] = {};
  std::vector<Gap> all;
  for (const Step& s : steps) {
    wall += static_cast<double>(s.wall), busy += static_cast<double>(s.busy), count += static_cast<double>(s.count);
    for (const Gap& g : s.gaps) {
      const int at = static_cast<int>(std::find_if(kLimits, kLimits + 6, [&](uint64_t l) { return g.length < l; }) - kLimits);
      sum[at] += static_cast<double>(g.length), number[at]++;
      all.push_back(g);
    }
  }
  const double n = static_cast<double>(steps.size());
  std::fprintf(stderr, "gaps: mean of the fastest %zu steps: %.3f ms, of which a kernel or copy ran %.3f ms; gaps %.3f ms, %.2f %%; %.0f kernels and copies\n",
               steps.size(), wall / n / 1e6, busy / n / 1e6, (wall - busy) / n / 1e6, 100 * (wall - busy) / wall, count / n);
  for (int i = 0; i < 6; i++) {
    std::fprintf(stderr, "gaps: %-12s %8.1f a step %10.1f us %6.2f %%\n", kNames[i], number[i] / n, sum[i] / n / 1e3, 100 * sum[i] / wall);
  }
  std::sort(all.begin(), all.end(), [](const Gap& a, const Gap& b) { return a.length > b.length; });
  for (size_t i = 0; i < all.size() && i < 12; i++) {
    std::fprintf(stderr, "gaps: %8.1f us between %s and %s\n", static_cast<double>(all[i].length) / 1e3, spans[all[i].before].name.c_str(),
                 spans[all[i].after].name.c_str());
  }
}

void report() {
  check(cuptiActivityFlushAll(1), "flushing");
  const std::lock_guard<std::mutex> lock(mutex);
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  std::vector<size_t> updates;
  for (size_t i = 0; i < spans.size(); i++) {
    if (spans[i].name.find("adamw") != std::string::npos) updates.push_back(i);
  }
  std::vector<Step> steps;
  for (size_t i = 1; i < updates.size(); i++) steps.push_back(measure(updates[i - 1] + 1, updates[i], spans[updates[i - 1]].end));
  std::fprintf(stderr, "gaps: %zu kernels and copies, %zu steps\n", spans.size(), steps.size());
  if (steps.empty()) return;
  std::sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.wall < b.wall; });
  steps.resize((steps.size() + 1) / 2);
  print(steps);
}

}  // namespace

/* CUDA calls this when the program initialises it. */
extern "C" int InitializeInjection(void) {
  check(cuptiActivityRegisterCallbacks(give_buffer, take_buffer), "registering");
  check(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL), "tracing kernels");
  check(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY), "tracing copies");
  check(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET), "tracing fills");
  std::atexit(report);
  return 1;
}
