// The activation function, a table, or nothing at all: one word a cycle.
#pragma once

#include "commands.hpp"

namespace bertile {

static const int kActivationEntries = 1 << kLawGeluIndexBits;

inline void LoadActivationTable(Stream<Beat>& table_beats, uint8_t table[kActivationEntries]) {
ActivationTable_Beat:
  for (int i = 0; i < kActivationEntries / kPacketBeatBytes; ++i) {
#pragma HLS PIPELINE II = 1
    const Beat beat = table_beats.read();
  ActivationTable_Byte:
    for (int byte = 0; byte < kPacketBeatBytes; ++byte) {
#pragma HLS UNROLL
      table[i * kPacketBeatBytes + byte] = beat.byte[byte];
    }
  }
  BERTILE_DRAIN();
}

inline void Activate(Stream<ActivateCommand>& commands, Stream<WideWord>& results, Stream<Beat>& table_beats,
                     Stream<Beat>& words) {
  uint8_t table[kActivationEntries];
#pragma HLS ARRAY_PARTITION variable = table cyclic factor = 64
Activate_Command:
  while (true) {
    const ActivateCommand command = commands.read();
    if (command.region.tiles == 0) return;
    if (command.look_up) LoadActivationTable(table_beats, table);
    RegionCounter at;
  Activate_Word:
    for (uint32_t i = 0; i < RegionWords(command.region); ++i) {
#pragma HLS PIPELINE II = 1
      const WideWord result = results.read();
      Beat beat = AddressedWord(TargetAddress(command.region, at), kWordKindActivation);
    Activate_Lane:
      for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
        const int value = result.lane[lane];
        beat.byte[lane] = command.look_up ? table[value + kActivationEntries / 2] : uint8_t(value);
      }
      words.write(beat);
      at.Next(command.region);
    }
    BERTILE_DRAIN();
  }
}

}  // namespace bertile
