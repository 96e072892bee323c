// What of a command can be carried out (docs/program.md, Errors of the engine).
#pragma once

#include "types.hpp"

namespace bertile {

inline bool IsOperation(const Command& command) {
#pragma HLS INLINE
  return command.opcode == kEngineOpcodeGemm || command.opcode == kEngineOpcodeScores ||
         command.opcode == kEngineOpcodeContext;
}

// No result to send and no tile to take.
inline bool IsEmpty(const Command& command) {
#pragma HLS INLINE
  return command.tiles == 0 || command.row_count == 0;
}

// Counts and sizes in range. Without it a command is blank: it sends its results, but multiplies nothing.
inline bool HasShape(const Command& command) {
#pragma HLS INLINE
  if (command.row_first + command.row_count > kCapacityRowBlocks) return false;
  if (command.opcode == kEngineOpcodeGemm) return true;
  const bool is_scores = command.opcode == kEngineOpcodeScores;
  const int tiles = is_scores ? CeilDivide(command.keys, kArrayOutputs) : command.head_size / kArrayOutputs;
  const bool head_fits = command.head_size > 0 && command.head_size <= kCapacityHeadSizes &&
                         command.head_size % kArrayOutputs == 0;
  const bool keys_fit = command.keys > 0 && command.keys <= kCapacityTokens;
  const bool slot_exists = is_scores || command.row_scale_slot < kCapacityProbabilitySlots;
  return head_fits && keys_fit && slot_exists && command.tiles == tiles && command.shift <= kLawShiftMax;
}

}  // namespace bertile
