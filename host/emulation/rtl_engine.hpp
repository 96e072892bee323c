// Verilated RTL engines as one stage among the HLS stages of a timed simulation: the stand-in for the card.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "compute_unit.hpp"

namespace bertile {

class RtlModel;

// What lies between the kernels.
struct EngineLink {
  uint64_t crossing;            // cycles a word, or the room for one, takes between encoder and engine of a unit
  uint64_t peer_crossing;       // and from the encoder of another unit
  uint64_t period_picoseconds;  // of the clock, for waves alone
};

// Waves of the cycles in which the oldest unfinished command is one of these.
struct Waves {
  std::string file;  // "": none
  uint64_t first_command;
  uint64_t last_command;
};

// Cycles of a launch, from its start to its last result, by the oldest command that was unfinished in each.
struct EngineCounts {
  uint64_t idle;     // none was
  uint64_t halt;     // words that nothing computes with any more were awaited
  uint64_t gemm;
  uint64_t scores;
  uint64_t context;
  uint64_t blocked;  // of all these: a result had no room
  uint64_t commands;  // words taken and sent
  uint64_t tiles;
  uint64_t words;
  uint64_t words_from_0;
  uint64_t words_from_1;
  uint64_t results;
};

// The model lives across launches, as the engine on the card does, and is reset once.
class RtlEngine {
 public:
  RtlEngine();
  ~RtlEngine();
  RtlEngine(const RtlEngine&) = delete;
  RtlEngine& operator=(const RtlEngine&) = delete;

  // From another thread: a launch of this engine throws.
  void Stop() { stopped_.store(true); }
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }
  RtlModel& model() { return *model_; }

 private:
  const std::unique_ptr<RtlModel> model_;
  std::atomic<bool> stopped_{false};
};

// A launch of several engines on one clock; runs until each has answered halt. Waves of the first go to the file, those
// of others beside it. Throws on a standstill.
void RunEngines(const std::vector<RtlEngine*>& engines, const std::vector<EngineStreams>& streams,
                const EngineLink& link, const Waves& waves, EngineCounts* counts);

}  // namespace bertile
