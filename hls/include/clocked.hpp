// Simulation only: a stage that is a model with a clock, such as RTL, among the stages of a timed simulation.
//
// In every cycle it must know whether a word is there, and not only find one when it waits. So it goes on only when no
// other stage can move without it. That is asked once a batch of cycles: everything between it and the other stages
// takes `crossing` cycles, there and back, so what it does in a batch comes back to it in the next one at the earliest.
#pragma once

#include "simulation.hpp"

namespace bertile {

class BatchClock {
 public:
  // Word and room take `crossing` cycles each, and a stage at least one to answer.
  explicit BatchClock(uint64_t crossing) : BatchClock(crossing, 2 * crossing + 1) {}
  BatchClock(uint64_t crossing, uint64_t batch) : batch_(batch) {
    if (batch < 1 || batch > 2 * crossing + 1) throw std::logic_error("a batch of cycles that feels its own effects");
    if (!Simulation::Current()->timing()) throw std::logic_error("a clocked stage in an untimed simulation");
  }
  uint64_t now() const { return now_; }
  // Before anything is asked of a stream in a cycle.
  void Begin() {
    if (now_ % batch_ == 0) Simulation::Current()->AwaitQuiescence();
  }
  void End() { ++now_; }

 private:
  const uint64_t batch_;
  uint64_t now_ = 0;
};

// The reading end of a stream into the model. Other stages may write at the same time, but only what comes later.
template <typename T>
class ClockedInput {
 public:
  ClockedInput(Stream<T>& stream, uint64_t crossing) : stream_(stream), crossing_(crossing) {}
  bool Valid(uint64_t now) const {
    uint64_t cycle;
    return stream_.HeadTime(cycle) && cycle + crossing_ <= now;
  }
  // A word is on its way, but not there yet.
  bool Coming(uint64_t now) const {
    uint64_t cycle;
    return stream_.HeadTime(cycle) && cycle + crossing_ > now;
  }
  const T& Head() const { return stream_.Head(); }
  void Take(uint64_t now) { stream_.TakeAt(now + crossing_); }

 private:
  Stream<T>& stream_;
  const uint64_t crossing_;
};

// The writing end of a stream out of the model.
template <typename T>
class ClockedOutput {
 public:
  ClockedOutput(Stream<T>& stream, uint64_t crossing) : stream_(stream), crossing_(crossing) {}
  bool Ready(uint64_t now) const {
    uint64_t cycle;
    return stream_.RoomTime(cycle) && (cycle == 0 || cycle + crossing_ <= now);
  }
  void Give(const T& value, uint64_t now) { stream_.PutAt(value, now + crossing_); }

 private:
  Stream<T>& stream_;
  const uint64_t crossing_;
};

}  // namespace bertile
