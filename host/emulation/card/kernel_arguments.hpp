// The arguments of a launch as the encoder kernel takes them, and how a kernel library reports an error.
#pragma once

#include <cstring>
#include <string>

#include "compute_unit.hpp"

namespace bertile {

// Longest stretch without a word moving before a simulation calls it a deadlock; a busy machine is slow.
const double kDeadlockSeconds = 120.0;

inline ComputeUnitMemory MemoryOf(void* const* arguments) {
  ComputeUnitMemory memory;
  memory.program = static_cast<const Beat*>(arguments[0]);
  memory.weights = static_cast<const Beat*>(arguments[1]);
  memory.parameters = static_cast<const Beat*>(arguments[2]);
  memory.launch = static_cast<const Beat*>(arguments[3]);
  memory.input = static_cast<const Word*>(arguments[4]);
  memory.output = static_cast<Word*>(arguments[5]);
  memory.status = static_cast<Beat*>(arguments[6]);
  return memory;
}

inline int Report(const std::string& why, char* error, size_t error_bytes) {
  std::strncpy(error, why.c_str(), error_bytes - 1);
  error[error_bytes - 1] = 0;
  return why.empty() ? 0 : 1;
}

}  // namespace bertile
