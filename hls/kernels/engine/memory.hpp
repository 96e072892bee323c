// The engine's memories: activations, row scales, and the two halves of the tile memory. And its error register.
#pragma once

#include "types.hpp"

namespace bertile {

static const int kGroupsPerPacket = kPacketVectors / kPacketVectorsPerBeat;

// One output tile ready for the array: per-feature parameters and, for each cycle, four weight vectors and the
// addresses of their input features.
struct TileBuffer {
  Beat weight[kCapacityTileBeats];
  uint16_t index[kCapacityTileBeats][kArrayInputs];
  TileParameter parameter[kArrayOutputs];
  int groups;
};

struct EngineMemory {
  // Two copies with two ports each: four random reads a cycle.
  Word activation[2][kCapacityActivationWords];
  uint16_t row_scale[kCapacityProbabilitySlots][kWordTokens];
  TileBuffer tile[2];
  uint32_t received;                              // words of this unit since the launch began
  uint32_t received_from[kCooperationUnits - 1];  // and of the others
  uint32_t error;                                  // engine_error: the first of the launch
};

// Scores and context keep their operands where a gemm keeps its tiles.
static const int kKeyHalf = 0;
static const int kValueHalf = 1;

static_assert(kCapacityTokens / kArrayOutputs * kCapacityHeadSizes / kArrayInputs <= kCapacityTileBeats,
              "the keys of a head fit one half of the tile memory");
static_assert(kCapacityHeadSizes / kArrayOutputs * kCapacityTokens / kArrayInputs <= kCapacityTileBeats,
              "the values of a head fit one half of the tile memory");
static_assert(kCapacityFfn / kArrayInputs <= kCapacityTileBeats, "a dense tile of the widest matrix fits");
static_assert((1 << kPacketIndexBits) >= kCapacityFfn, "an index entry can name every input feature");

inline void Report(uint32_t error, EngineMemory& memory) {
#pragma HLS INLINE
  if (memory.error == kEngineErrorNone) memory.error = error;
}

// The address, or 0 instead of one past the memory: what is read there does not matter any more.
inline uint16_t OperandAddress(uint16_t address, EngineMemory& memory) {
#pragma HLS INLINE
  if (address < kCapacityActivationWords) return address;
  Report(kEngineErrorAddress, memory);
  return 0;
}

// Store one word at its address. A word without a place is dropped, but its receiver counts it: who waits for it must
// not wait for ever. Row scales come from this unit's encoder (`is_own`) only.
inline void StoreWord(const Beat& beat, bool is_own, EngineMemory& memory) {
#pragma HLS INLINE
  const EngineWord header = DecodeEngineWord(beat.byte);
  if (is_own && header.kind == kWordKindRowScale && header.address < 2 * kCapacityProbabilitySlots) {
    const int slot = header.address >> 1;
    const int half = (header.address & 1) * kWordTokens / 2;
  RowScale_Lane:
    for (int lane = 0; lane < kWordTokens / 2; ++lane) {
#pragma HLS UNROLL
      memory.row_scale[slot][half + lane] = uint16_t(beat.byte[2 * lane] | beat.byte[2 * lane + 1] << 8);
    }
  } else if (header.kind == kWordKindActivation && header.address < kCapacityActivationWords) {
  Store_Lane:
    for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
      const int8_t value = int8_t(beat.byte[lane]);
      memory.activation[0][header.address].lane[lane] = value;
      memory.activation[1][header.address].lane[lane] = value;
    }
  } else {
    Report(kEngineErrorWord, memory);
  }
}

}  // namespace bertile
