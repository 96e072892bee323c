// The moments of a LayerNorm, over the features of this unit or, in a cooperative launch, of all units: sums of whole
// numbers, so it does not matter who adds what first.
#pragma once

#include "layernorm.hpp"

namespace bertile {

// Partial sums as beats: 32 totals of 32 bits, then 32 sums of squares of 64 bits.
inline Beat PartialBeat(const PartialMoments& partial, int index) {
#pragma HLS INLINE
  const int totals = kWordTokens * 4 / kPacketBeatBytes;
  Beat beat;
Partial_Byte:
  for (int byte = 0; byte < kPacketBeatBytes; ++byte) {
#pragma HLS UNROLL
    const int low = (index * kPacketBeatBytes + byte) / 4;
    const int high = ((index - totals) * kPacketBeatBytes + byte) / 8;
    beat.byte[byte] = index < totals ? uint8_t(uint32_t(partial.total[low]) >> (byte % 4 * 8))
                                     : uint8_t(uint64_t(partial.squares[high]) >> (byte % 8 * 8));
  }
  return beat;
}

inline void AddPartialBeat(const Beat& beat, int index, PartialMoments& sum) {
#pragma HLS INLINE
  const int totals = kWordTokens * 4 / kPacketBeatBytes;
  if (index < totals) {
  Total_Lane:
    for (int i = 0; i < kPacketBeatBytes / 4; ++i) {
#pragma HLS UNROLL
      uint32_t value = 0;
      for (int byte = 0; byte < 4; ++byte) value |= uint32_t(beat.byte[4 * i + byte]) << (8 * byte);
      sum.total[index * kPacketBeatBytes / 4 + i] += int32_t(value);
    }
  } else {
  Squares_Lane:
    for (int i = 0; i < kPacketBeatBytes / 8; ++i) {
#pragma HLS UNROLL
      uint64_t value = 0;
      for (int byte = 0; byte < 8; ++byte) value |= uint64_t(beat.byte[8 * i + byte]) << (8 * byte);
      sum.squares[(index - totals) * kPacketBeatBytes / 8 + i] += int64_t(value);
    }
  }
}

static_assert(kWordTokens * (4 + 8) == kCooperationMomentBeats * kPacketBeatBytes, "the partial sums of a row block");
static_assert(kStreamMomentsFrom >= kCapacityRowBlocks * kCooperationMomentBeats,
              "a unit can send all its partial sums before it takes any");

// Whether every unit can run the launch: the largest error of all, nothing else being known of the others.
inline uint32_t Agree(uint32_t error, Stream<Beat>& to_0, Stream<Beat>& to_1, Stream<Beat>& from_0,
                      Stream<Beat>& from_1) {
  Beat beat = {};
  beat.byte[0] = uint8_t(error);
  to_0.write(beat);
  to_1.write(beat);
  const uint32_t error_0 = from_0.read().byte[0];
  const uint32_t error_1 = from_1.read().byte[0];
  return error != kErrorNone ? error : error_0 != kErrorNone || error_1 != kErrorNone ? uint32_t(kErrorPeer) : 0;
}

inline RowMoments MomentsOf(const PartialMoments& sum) {
  RowMoments moments;
Moments_Lane:
  for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS PIPELINE II = 1
    const int64_t variance =
        sum.features * sum.squares[lane] - int64_t(sum.total[lane]) * sum.total[lane] + sum.epsilon;
    int half;
    ReciprocalSqrt(uint64_t(variance), moments.mantissa[lane], half);
    moments.total[lane] = sum.total[lane];
    moments.shift[lane] = int8_t(31 + half - kLawNormFractionBits);
    BERTILE_CYCLES(1);
  }
  return moments;
}

inline void NormMoments(Stream<MomentsCommand>& commands, Stream<PartialMoments>& partials, Stream<Beat>& to_0,
                        Stream<Beat>& to_1, Stream<Beat>& from_0, Stream<Beat>& from_1, Stream<uint32_t>& agreed,
                        Stream<RowMoments>& moments) {
  PartialMoments sums[kCapacityRowBlocks];
Moments_Command:
  while (true) {
    const MomentsCommand command = commands.read();
    if (command.kind == kMomentsEnd) return;
    if (command.kind == kMomentsAgree) {
      agreed.write(Agree(command.error, to_0, to_1, from_0, from_1));
      continue;
    }
  Moments_Send:
    for (int row = 0; row < command.row_count; ++row) {
      sums[row] = partials.read();
      if (command.kind == kMomentsAlone) continue;
    Send_Beat:
      for (int i = 0; i < kCooperationMomentBeats; ++i) {
#pragma HLS PIPELINE II = 1
        const Beat beat = PartialBeat(sums[row], i);
        to_0.write(beat);
        to_1.write(beat);
      }
    }
  Moments_Row:
    for (int row = 0; row < command.row_count; ++row) {
      if (command.kind == kMomentsTogether) {
      Take_Beat:
        for (int i = 0; i < kCooperationMomentBeats; ++i) {
#pragma HLS PIPELINE II = 1
          AddPartialBeat(from_0.read(), i, sums[row]);
          AddPartialBeat(from_1.read(), i, sums[row]);
        }
      }
      moments.write(MomentsOf(sums[row]));
    }
    BERTILE_DRAIN();
  }
}

}  // namespace bertile
