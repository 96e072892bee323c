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

// A shift is 6 bits wide. More than shift_max in a tile is a mistake of the packer that no error code tells.
static const int kShiftMask = 63;
static_assert(kLawShiftMax <= kShiftMask, "every shift of the law fits");

inline WideWord Requantize(const Drain& drain, int feature, const Command& command, const EngineMemory& memory) {
#pragma HLS INLINE
  const bool by_row = command.opcode == kEngineOpcodeContext;
  const bool by_feature = command.opcode == kEngineOpcodeGemm;
  const TileParameter parameter = drain.parameter[feature];
  const int shift = (by_feature ? parameter.shift : command.shift) & kShiftMask;
  const int slot = command.row_scale_slot < kCapacityProbabilitySlots ? command.row_scale_slot : 0;
  WideWord word;
Requantize_Lane:
  for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
    const int64_t multiplier = by_feature ? parameter.multiplier
                               : by_row   ? memory.row_scale[slot][lane]
                                          : command.multiplier;
    const int64_t sum = int64_t(drain.accumulators.value[feature][lane]) + (by_feature ? parameter.bias : 0);
    const int64_t scaled = RoundingShift(sum * multiplier, shift);
    word.lane[lane] = int16_t(Clamp(scaled, command.limit_low, command.limit_high));
  }
  return word;
}

}  // namespace bertile
