// Units of the emulated card that run a launch together: each is started on its own, and the simulation of all of them
// runs once the last one is. On a card they run side by side and wait for each other's words.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "compute_unit.hpp"
#include "encoder/memory_access.hpp"

namespace bertile {

inline bool IsCooperative(const ComputeUnitMemory& memory) {
  return (DecodeLaunch(memory.launch[0].byte).flags >> kLaunchFlagCooperative) & 1;
}

class Team {
 public:
  // Run the launch with what every unit was given, in the order of the units; the same answer for all.
  template <typename Run>
  std::string Launch(uint32_t unit, const ComputeUnitMemory& memory, Run run) {
    std::unique_lock<std::mutex> lock(mutex_);
    memory_[unit] = memory;
    memory.status[0] = BegunStatus();  // the kernel begins with the last unit, but a host looks at those that wait
    if (++arrived_ == kCooperationUnits) {
      try {
        answer_ = run(memory_);
      } catch (const std::exception& exception) {  // the others wait for an answer, too
        answer_ = exception.what();
      }
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
