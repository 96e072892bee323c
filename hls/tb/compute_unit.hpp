// One compute unit in simulation: the encoder kernel and an engine on bounded streams, a thread a stage.
#pragma once

#include "bertile_encoder.hpp"

namespace bertile {

struct ComputeUnitMemory {
  const Beat* program;
  const Beat* weights;
  const Beat* parameters;
  const Beat* launch;
  const Word* input;
  Word* output;
  Beat* status;
};

// A launch of the engine: commands, tiles and words in, results out.
typedef std::function<void(Stream<Beat>&, Stream<Beat>&, Stream<Beat>&, Stream<WideWord>&)> Engine;

// When words reach the engine: as soon as they can, or only when it waits for one. A command whose await_words is too
// low reads stale words in the second case; in the first, timing may hide it.
enum class WordTiming { kEarly, kLate };

// Both return an empty string, or why the simulation failed.
std::string RunComputeUnit(const ComputeUnitMemory& memory, const Engine& engine, WordTiming timing,
                           double deadlock_seconds);
// `cycles`: from the start of the encoder to the end of its last stage.
std::string RunTimedComputeUnit(const ComputeUnitMemory& memory, const Engine& engine, const TimingModel& timing,
                                double deadlock_seconds, uint64_t& cycles);

}  // namespace bertile
