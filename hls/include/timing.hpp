// Simulation only: clock cycles. In a timed simulation every stage has a clock, and every stream entry the cycle from
// which it can be read. What a stage does, and when, so depends on these cycles alone, not on how its thread is
// scheduled.
//
// A stage is a pipeline that starts at most one iteration a cycle. An iteration starts when its words are there and its
// results will have room, and its results appear `latency` cycles later. Room is claimed at the start, as a
// free-running pipeline does, so nothing a stage does has an effect in the past.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace bertile {

// What stages and memory are assumed to cost.
struct TimingModel {
  std::map<std::string, uint64_t> latency;  // depth of a stage's pipeline, by the name of the stage
  uint64_t memory_latency = 0;              // from a request to its first beat
  double memory_bytes_per_cycle = 0;
};

// The clock of a stage, on its own thread.
class StageClock {
 public:
  static const int kBusBits = 20;

  StageClock(const TimingModel& model, const std::string& stage, uint64_t start);

  // Of this thread; null in an untimed simulation.
  static StageClock*& Current();

  uint64_t now() const { return now_; }
  // Throws where the model does not name the stage: no latency is made up.
  uint64_t latency() const;
  void Reach(uint64_t cycle) {
    if (cycle > now_) now_ = cycle;
  }
  void Spend(uint64_t cycles) { now_ += cycles; }
  void Drain() { now_ += latency(); }
  void RequestMemory() { now_ += model_.memory_latency; }
  void TransferMemory(int bytes);

 private:
  const TimingModel& model_;
  const std::string stage_;
  uint64_t now_;
  uint64_t latency_ = 0;  // 0: the model does not name the stage
  uint64_t memory_free_ = 0;  // when the bus is, in 2^-kBusBits cycles
};

// The cycles of one stream.
struct StreamTimes {
  explicit StreamTimes(uint64_t depth) : readable(new uint64_t[depth]()), writable(new uint64_t[depth]()) {}
  std::unique_ptr<uint64_t[]> readable;  // of each slot: when its entry can be read
  std::unique_ptr<uint64_t[]> writable;  // when an entry can be sent to it again
  uint64_t next_read = 0;
  uint64_t next_write = 0;
};

}  // namespace bertile
