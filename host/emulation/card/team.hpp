// Units of the emulated card that run a launch together: each is started on its own, and the simulation of all of them
// runs once the last one is. On a card they run side by side and wait for each other's words.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "compute_unit.hpp"

namespace bertile {

inline bool IsCooperative(const ComputeUnitMemory& memory) {
  return (DecodeLaunch(memory.launch[0].byte).flags >> kLaunchFlagCooperative) & 1;
}

// What the kernel writes when it starts: here it starts with the last one, but a host looks at those that wait.
inline void WriteBegun(const ComputeUnitMemory& memory) {
  Status begun = {};
  begun.spec_digest = kSpecDigest;
  begun.error = kErrorRunning;
  EncodeStatus(begun, memory.status[0].byte);
}

class Team {
 public:
  // Run the launch with what every unit was given, in the order of the units; the same answer for all.
  template <typename Run>
  std::string Launch(uint32_t unit, const ComputeUnitMemory& memory, Run run) {
    std::unique_lock<std::mutex> lock(mutex_);
    memory_[unit] = memory;
    WriteBegun(memory);
    if (++arrived_ == kCooperationUnits) {
      answer_ = run(memory_);
      arrived_ = 0;
      ++launches_;
      all_here_.notify_all();
      return answer_;
    }
    const uint64_t launch = launches_;
    all_here_.wait(lock, [&] { return launches_ != launch; });
    return answer_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_here_;
  std::vector<ComputeUnitMemory> memory_ = std::vector<ComputeUnitMemory>(kCooperationUnits);
  std::string answer_;
  int arrived_ = 0;
  uint64_t launches_ = 0;
};

}  // namespace bertile
