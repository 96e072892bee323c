// Compute units in simulation: one alone, or three that run a request together. Encoder kernels and engines on bounded
// streams, a thread a stage.
#pragma once

#include <vector>

#include "bertile_encoder.hpp"

namespace bertile {

// The buffers that a host gives the encoder kernel of a unit, in the order of its parameters. Python fills it, too
// (bertile.devices.launch).
struct ComputeUnitMemory {
  const Beat* program;
  const Beat* weights;
  const Beat* parameters;
  const Beat* launch;
  const Word* input;
  Word* output;
  Beat* status;
};

struct EngineStreams {
  Stream<Beat>& commands;
  Stream<Beat>& tiles;
  Stream<Beat>& words;
  Stream<Beat>& words_from_0;
  Stream<Beat>& words_from_1;
  Stream<WideWord>& results;
};

// A launch of one engine.
typedef std::function<void(const EngineStreams&)> Engine;
// A launch of the engines of all units, on one clock.
typedef std::function<void(const std::vector<EngineStreams>&)> ClockedEngines;

// When words reach the engine: as soon as they can, or only when it waits for one. A command whose await_words is too
// low reads stale words in the second case; in the first, timing may hide it.
enum class WordTiming { kEarly, kLate };

// Both return an empty string, or why the simulation failed. One unit, or kCooperationUnits.
std::string RunComputeUnits(const std::vector<ComputeUnitMemory>& memory, const Engine& engine, WordTiming timing,
                            double deadlock_seconds);
// `peer_crossing`: cycles of a beat from one unit to another. `cycles`: from the start of the encoders to the end of
// their last stage.
std::string RunTimedComputeUnits(const std::vector<ComputeUnitMemory>& memory, const ClockedEngines& engines,
                                 const TimingModel& timing, uint64_t peer_crossing, double deadlock_seconds,
                                 uint64_t& cycles);

}  // namespace bertile
