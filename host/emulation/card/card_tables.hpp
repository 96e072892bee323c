// What the kernel libraries take from spec/: defined in a generated source (bertile.emulation.tables).
#pragma once

#include "kernel_library.hpp"

namespace bertile {

struct StageLatency {
  const char* stage;
  uint64_t cycles;
};

// Assumed costs of spec/targets, for the kernels around the RTL engine.
struct TargetTiming {
  uint64_t crossing;
  uint64_t peer_crossing;
  uint64_t period_picoseconds;
  uint64_t memory_latency;
  double memory_bytes_per_cycle;
  uint64_t stages;
  const StageLatency* latency;
};

extern const BertileCard kCard;
extern const TargetTiming kTargetTiming;

}  // namespace bertile
