// What the test benches share: random numbers, case counters, stream feeding, and the law's rounding written anew.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "stream.hpp"
#include "types.hpp"

namespace bertile {
namespace testing {

// Seconds without a word moving after which a bench calls it a deadlock.
static const double kDeadlockSeconds = 20.0;

// The same numbers in every run and with every library: only the generator itself is standardized.
class Random {
 public:
  explicit Random(uint64_t seed) : generator_(seed) {}
  int64_t Between(int64_t low, int64_t high) { return low + int64_t(generator_() % uint64_t(high - low + 1)); }
  bool Chance(int percent) { return Between(1, 100) <= percent; }
  // Uniform, with the ends of the range more often than chance would have them.
  int64_t Extreme(int64_t low, int64_t high) {
    const int64_t pick = Between(0, 9);
    return pick == 0 ? low : pick == 1 ? high : Between(low, high);
  }

 private:
  std::mt19937_64 generator_;
};

// A line a case; the exit status of the bench.
class Cases {
 public:
  void Report(const std::string& name, const std::string& failure) {
    ++(failure.empty() ? passed_ : failed_);
    std::printf("%s %s%s%s\n", failure.empty() ? "pass" : "FAIL", name.c_str(), failure.empty() ? "" : ": ",
                failure.c_str());
    std::fflush(stdout);
  }
  int Finish() const {
    std::printf("%d passed, %d failed\n", passed_, failed_);
    return passed_ == 0 || failed_ != 0;
  }

 private:
  int passed_ = 0;
  int failed_ = 0;
};

// Empty when all `count` values were equal and there was at least one; otherwise the first difference.
class Comparison {
 public:
  explicit Comparison(const std::string& what) : what_(what) {}
  void Equal(int64_t actual, int64_t expected) {
    if (failure_.empty() && actual != expected) {
      failure_ = what_ + " value " + std::to_string(count_) + " is " + std::to_string(actual) + ", not " +
                 std::to_string(expected);
    }
    ++count_;
  }
  std::string Result(uint64_t expected_count) const {
    if (!failure_.empty()) return failure_;
    if (count_ == expected_count && count_ > 0) return "";
    return what_ + ": " + std::to_string(count_) + " values compared, not " + std::to_string(expected_count);
  }

 private:
  const std::string what_;
  std::string failure_;
  uint64_t count_ = 0;
};

inline std::string First(const std::string& a, const std::string& b) { return a.empty() ? b : a; }

typedef __int128 Exact;

inline Exact FloorDivide(Exact value, Exact divisor) {
  const Exact quotient = value / divisor;
  return value % divisor < 0 ? quotient - 1 : quotient;
}

// Nearest integer to value / 2^shift, halves toward plus infinity: floor(value / 2^shift + 1/2).
inline Exact RoundedQuotient(Exact value, int shift) {
  const Exact divisor = Exact(1) << shift;
  return FloorDivide(2 * value + divisor, 2 * divisor);
}

inline int64_t Saturated(Exact value, int64_t low, int64_t high) {
  if (value < low) return low;
  return value > high ? high : int64_t(value);
}

template <typename T>
void Feed(const std::vector<T>& values, Stream<T>& stream) {
  for (const T& value : values) stream.write(value);
}

template <typename T>
void Collect(uint64_t count, Stream<T>& stream, std::vector<T>& values) {
  for (uint64_t i = 0; i < count; ++i) values.push_back(stream.read());
}

// Run `body` (streams and stages) in a simulation of its own. Empty, or why it failed: deadlock, leftover, exception.
inline std::string Simulate(const std::function<void()>& body, double deadlock_seconds = kDeadlockSeconds,
                            const TimingModel* timing = nullptr) {
  Simulation simulation(deadlock_seconds, timing);
  body();
  return simulation.error();
}

}  // namespace testing
}  // namespace bertile
