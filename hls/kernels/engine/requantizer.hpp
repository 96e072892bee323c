// Accumulators to result words (docs/numerics.md, Requantization).
#pragma once

#include "arithmetic.hpp"
#include "mac_array.hpp"

namespace bertile {

// A finished pass on its way out, one word a cycle, behind the next pass.
struct Drain {
  Accumulators accumulators;
  TileParameter parameter[kArrayOutputs];
  int words;  // 16, or 0 when nothing waits
};

inline WideWord Requantize(const Drain& drain, int feature, const Command& command, const EngineMemory& memory) {
#pragma HLS INLINE
  const bool by_row = command.opcode == kEngineOpcodeContext;
  const bool by_feature = command.opcode == kEngineOpcodeGemm;
  const TileParameter parameter = drain.parameter[feature];
  const int shift = by_feature ? parameter.shift : command.shift;
  WideWord word;
Requantize_Lane:
  for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
    const int64_t multiplier = by_feature ? parameter.multiplier
                               : by_row   ? memory.row_scale[command.row_scale_slot][lane]
                                          : command.multiplier;
    const int64_t sum = int64_t(drain.accumulators.value[feature][lane]) + (by_feature ? parameter.bias : 0);
    const int64_t scaled = RoundingShift(sum * multiplier, shift);
    word.lane[lane] = int16_t(Clamp(scaled, command.limit_low, command.limit_high));
  }
  return word;
}

}  // namespace bertile
