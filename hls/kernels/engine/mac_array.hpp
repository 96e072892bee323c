// The outer-product array: 32 tokens x 16 outputs x 4 inputs a cycle, two INT8 products in one DSP48E2.
#pragma once

#include "memory.hpp"

namespace bertile {

struct Accumulators {
  int32_t value[kArrayOutputs][kWordTokens];
};

static_assert(kArrayInputs * 128 * 255 < 1 << (kArrayFieldBits - 1),
              "a sum over the inputs of a cycle fits the low field of the packed product");

// Activations as the multiplier sees them: signed 9 bits.
struct ArrayOperand {
  int16_t lane[kArrayInputs][kWordTokens];
};

inline ArrayOperand ReadOperand(const EngineMemory& memory, const uint16_t address[kArrayInputs], bool is_unsigned) {
#pragma HLS INLINE
  ArrayOperand operand;
Operand_Input:
  for (int i = 0; i < kArrayInputs; ++i) {
#pragma HLS UNROLL
    const Word& word = memory.activation[i & 1][address[i]];
  Operand_Lane:
    for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
      const int16_t value = word.lane[lane];
      operand.lane[i][lane] = is_unsigned ? int16_t(value & 0xFF) : value;
    }
  }
  return operand;
}

// Add one cycle: `weights` holds four vectors of 16 weights. Plain integers: the tool derives the 27 x 9 bit widths,
// and C-simulation stays fast.
inline void MacCycle(const ArrayOperand& operand, const Beat& weights, Accumulators& accumulators) {
#pragma HLS INLINE
Array_Pair:
  for (int pair = 0; pair < kArrayOutputs / 2; ++pair) {
#pragma HLS UNROLL
    int64_t packed_weight[kArrayInputs];
  Array_Pack:
    for (int i = 0; i < kArrayInputs; ++i) {
#pragma HLS UNROLL
      const int32_t low = int8_t(weights.byte[i * kArrayOutputs + 2 * pair]);
      const int32_t high = int8_t(weights.byte[i * kArrayOutputs + 2 * pair + 1]);
      packed_weight[i] = low + high * (1 << kArrayFieldBits);
    }
  Array_Lane:
    for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
      int64_t sum = 0;
    Array_Cascade:
      for (int i = 0; i < kArrayInputs; ++i) {
#pragma HLS UNROLL
        sum += packed_weight[i] * operand.lane[i][lane];
      }
      // The low field is signed; what it borrowed from the high field is given back.
      const int32_t half = 1 << (kArrayFieldBits - 1);
      const int32_t low = int32_t((sum + half) & ((1 << kArrayFieldBits) - 1)) - half;
      const int32_t high = int32_t((sum - low) >> kArrayFieldBits);
      accumulators.value[2 * pair][lane] += low;
      accumulators.value[2 * pair + 1][lane] += high;
    }
  }
}

}  // namespace bertile
