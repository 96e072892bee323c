// Softmax over the keys of one query row block (docs/numerics.md, Softmax), in two stages with a FIFO of scores between:
// the maximum of a row is known only when all of it has passed. A word is one key for 32 queries.
#pragma once

#include "../engine/arithmetic.hpp"
#include "commands.hpp"

namespace bertile {

static const int kExponentialEntries = 1 << kLawScoreFractionBits;
static const int kRowSumBits = 17;
static_assert(kCapacityTokens * kLawProbabilityMax < 1 << kRowSumBits, "a sum over all keys of a row fits");

inline void SoftmaxScan(Stream<SoftmaxCommand>& commands, Stream<WideWord>& results, Stream<WideWord>& scores,
                        Stream<WideWord>& maxima) {
Scan_Command:
  while (true) {
    const SoftmaxCommand command = commands.read();
    if (command.kind == kSoftmaxEnd) return;
    WideWord maximum;
#pragma HLS ARRAY_PARTITION variable = maximum.lane complete
    const int words = CeilDivide(command.keys, kArrayOutputs) * kArrayOutputs;
  Scan_Key:
    for (int key = 0; key < words; ++key) {
#pragma HLS PIPELINE II = 1
      const WideWord score = results.read();
      scores.write(score);
    Scan_Lane:
      for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
        const bool larger = key == 0 || score.lane[lane] > maximum.lane[lane];
        if (key < command.keys && larger) maximum.lane[lane] = score.lane[lane];
      }
    }
    maxima.write(maximum);
    BERTILE_DRAIN();
  }
}

// 255 * 2^-(distance / 256), rounded. Unsigned: a padding key may lie above the maximum, and no shift may be negative.
inline uint8_t Exponential(uint16_t distance, const uint16_t table[kExponentialEntries]) {
#pragma HLS INLINE
  const int whole = distance >> kLawScoreFractionBits;
  const int shift = 8 + (whole < 15 ? whole : 15);
  return uint8_t(RoundingShift(table[distance & (kExponentialEntries - 1)], shift));
}

inline void LoadExponentialTable(Stream<Beat>& table_beats, uint16_t table[kExponentialEntries]) {
  const int per_beat = kPacketBeatBytes / 2;
ExponentialTable_Beat:
  for (int i = 0; i < kExponentialEntries / per_beat; ++i) {
#pragma HLS PIPELINE II = 1
    const Beat beat = table_beats.read();
  ExponentialTable_Entry:
    for (int entry = 0; entry < per_beat; ++entry) {
#pragma HLS UNROLL
      table[i * per_beat + entry] = uint16_t(beat.byte[2 * entry] | beat.byte[2 * entry + 1] << 8);
    }
  }
}

// The reciprocals of the row sums: two words of 16 lanes.
inline void WriteRowScales(const SoftmaxCommand& command, const uint32_t total[kWordTokens], Stream<Beat>& words) {
  Beat beat;
RowScale_Half:
  for (int half = 0; half < 2; ++half) {
  RowScale_Row:
    for (int lane = 0; lane < kWordTokens / 2; ++lane) {
#pragma HLS PIPELINE II = 1
      if (lane == 0) beat = AddressedWord(uint16_t(2 * command.slot + half), kWordKindRowScale);
      const uint32_t sum = total[half * kWordTokens / 2 + lane];
      const uint32_t scale =
          Divide<kLawRowScaleBits, kRowSumBits>(uint64_t(command.numerator) + (sum >> 1), sum).to_uint();
      beat.byte[2 * lane] = uint8_t(scale);
      beat.byte[2 * lane + 1] = uint8_t(scale >> 8);
      BERTILE_CYCLES(1);
      if (lane == kWordTokens / 2 - 1) words.write(beat);
    }
  }
  BERTILE_DRAIN();
}

inline void SoftmaxExponentiate(Stream<SoftmaxCommand>& commands, Stream<WideWord>& scores, Stream<WideWord>& maxima,
                                Stream<Beat>& table_beats, Stream<Beat>& words) {
  uint16_t table[kExponentialEntries];
#pragma HLS ARRAY_PARTITION variable = table complete
Exponentiate_Command:
  while (true) {
    const SoftmaxCommand command = commands.read();
    if (command.kind == kSoftmaxEnd) return;
    if (command.kind == kSoftmaxTable) {
      LoadExponentialTable(table_beats, table);
      BERTILE_DRAIN();
      continue;
    }
    const WideWord maximum = maxima.read();
    uint32_t total[kWordTokens] = {};
#pragma HLS ARRAY_PARTITION variable = total complete
    const int count = CeilDivide(command.keys, kArrayOutputs) * kArrayOutputs;
  Exponentiate_Key:
    for (int key = 0; key < count; ++key) {
#pragma HLS PIPELINE II = 1
      const WideWord score = scores.read();
      Beat beat = AddressedWord(uint16_t(command.target + key), kWordKindActivation);
    Exponentiate_Lane:
      for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
        const uint8_t value = Exponential(uint16_t(maximum.lane[lane] - score.lane[lane]), table);
        beat.byte[lane] = key < command.keys ? value : 0;
        total[lane] += beat.byte[lane];
      }
      words.write(beat);
    }
    BERTILE_DRAIN();
    WriteRowScales(command, total, words);
  }
}

}  // namespace bertile
