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

// Returns an empty string, or why the simulation failed.
std::string RunComputeUnit(const ComputeUnitMemory& memory, double deadlock_seconds);

}  // namespace bertile
