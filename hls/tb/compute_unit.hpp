// One compute unit in simulation: the encoder kernel and the engine on bounded streams, a thread a stage.
#pragma once

#include "bertile_encoder.hpp"
#include "bertile_engine.hpp"

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

// When words reach the engine: as soon as they can, or only when it waits for one. A command whose await_words is too
// low reads stale words in the second case; in the first, timing may hide it.
enum class WordTiming { kEarly, kLate };

// Returns an empty string, or why the simulation failed.
std::string RunComputeUnit(const ComputeUnitMemory& memory, WordTiming timing, double deadlock_seconds);

}  // namespace bertile
