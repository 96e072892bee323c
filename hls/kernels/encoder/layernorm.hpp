// Residual addition and LayerNorm (docs/numerics.md, LayerNorm). A row can be normalized only when all of it has passed:
// one stage adds and sums up, one makes the moments of the sums, and one, behind a FIFO of the words, normalizes. The
// residual is the previous result, kept in a FIFO of its own.
#pragma once

#include "../engine/arithmetic.hpp"
#include "commands.hpp"

namespace bertile {

// Sums over the features of this unit, for the 32 rows of a row block.
struct PartialMoments {
  uint16_t features;  // of all units
  int64_t epsilon;
  int32_t total[kWordTokens];
  int64_t squares[kWordTokens];
};

// Mean and deviation of the 32 rows of a row block.
struct RowMoments {
  int32_t total[kWordTokens];
  uint32_t mantissa[kWordTokens];  // of the reciprocal deviation
  int8_t shift[kWordTokens];       // to a value with norm_fraction_bits
};

struct NormParameters {
  LayernormHeader header;
  LayernormFeature feature[kCapacityHidden];
};

// The header, then the features of `tiles` output tiles.
inline void LoadNormParameters(Stream<Beat>& beats, int tiles, NormParameters& parameters) {
  parameters.header = DecodeLayernormHeader(beats.read().byte);
  const int per_beat = kPacketBeatBytes / LayernormFeature::kBytes;
NormParameters_Beat:
  for (int i = 0; i < tiles * kArrayOutputs / per_beat; ++i) {
#pragma HLS PIPELINE II = 1
    const Beat beat = beats.read();
  NormParameters_Feature:
    for (int j = 0; j < per_beat; ++j) {
#pragma HLS UNROLL
      parameters.feature[i * per_beat + j] = DecodeLayernormFeature(beat.byte, j * LayernormFeature::kBytes);
    }
  }
  BERTILE_DRAIN();
}

// Floor of the square root of a 32-bit number, one result bit a step, without multiplications.
inline ap_uint<kLawRsqrtBits / 2> IntegerSqrt(ap_uint<kLawRsqrtBits> value) {
#pragma HLS INLINE
  ap_uint<kLawRsqrtBits / 2 + 2> rest = 0;
  ap_uint<kLawRsqrtBits / 2> root = 0;
Sqrt_Bit:
  for (int bit = kLawRsqrtBits / 2 - 1; bit >= 0; --bit) {
#pragma HLS UNROLL
    rest = (rest << 2) | value.range(2 * bit + 1, 2 * bit);
    const ap_uint<kLawRsqrtBits / 2 + 2> trial = (ap_uint<kLawRsqrtBits / 2 + 2>(root) << 2) | 1;
    root = root << 1;
    if (rest >= trial) {
      rest -= trial;
      root[0] = 1;
    }
  }
  return root;
}

// 1 / sqrt(variance) ~ mantissa / 2^(31 + half), mantissa in 2^15 .. 2^16.
inline void ReciprocalSqrt(uint64_t variance, uint32_t& mantissa, int& half) {
#pragma HLS INLINE
  int length = 0;
Length_Bit:
  for (int bit = 0; bit < 54; ++bit) {
#pragma HLS UNROLL
    if ((variance >> bit) & 1) length = bit + 1;
  }
  half = (length + 1) / 2 - kLawRsqrtBits / 2;
  const uint32_t argument = uint32_t(half >= 0 ? variance >> (2 * half) : variance << (-2 * half));
  const ap_uint<kLawRsqrtBits / 2> root = IntegerSqrt(argument);
  mantissa = Divide<kLawRsqrtBits / 2 + 1, kLawRsqrtBits / 2>(uint64_t(1) << 31, root).to_uint();
}

// First pass: z = saturate(y + residual), its sum and sum of squares.
inline void NormAccumulate(Stream<NormCommand>& commands, Stream<WideWord>& results, Stream<Beat>& parameter_beats,
                           Stream<Word>& residuals, Stream<WideWord>& sums, Stream<PartialMoments>& partials) {
  NormParameters parameters;
Accumulate_Command:
  while (true) {
    const Region region = commands.read().region;
    if (region.tiles == 0) return;
    LoadNormParameters(parameter_beats, region.tiles, parameters);
    int32_t total[kCapacityRowBlocks][kWordTokens];
    int64_t squares[kCapacityRowBlocks][kWordTokens];
#pragma HLS ARRAY_PARTITION variable = total complete dim = 2
#pragma HLS ARRAY_PARTITION variable = squares complete dim = 2
    RegionCounter at;
    int32_t tile_total[kWordTokens];
    int64_t tile_squares[kWordTokens];
#pragma HLS ARRAY_PARTITION variable = tile_total complete
#pragma HLS ARRAY_PARTITION variable = tile_squares complete
  Accumulate_Word:
    for (uint32_t i = 0; i < RegionWords(region); ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS DEPENDENCE variable = total type = inter distance = 16 true
#pragma HLS DEPENDENCE variable = squares type = inter distance = 16 true
      const WideWord result = results.read();
      const Word residual = residuals.read();
      const LayernormFeature feature = parameters.feature[at.column()];
      WideWord sum;
    Accumulate_Lane:
      for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
        const int64_t scaled = RoundingShift(int64_t(residual.lane[lane]) * feature.residual_multiplier,
                                             parameters.header.residual_shift);
        const int32_t z = int32_t(SaturateTo(result.lane[lane] + scaled, 16));
        sum.lane[lane] = int16_t(z);
        // Sixteen features in registers, then one addition to the memory: no loop-carried memory access.
        tile_total[lane] = (at.feature == 0 ? 0 : tile_total[lane]) + z;
        tile_squares[lane] = (at.feature == 0 ? 0 : tile_squares[lane]) + int64_t(z) * z;
        if (at.feature == kArrayOutputs - 1) {
          total[at.row][lane] = (at.tile == 0 ? 0 : total[at.row][lane]) + tile_total[lane];
          squares[at.row][lane] = (at.tile == 0 ? 0 : squares[at.row][lane]) + tile_squares[lane];
        }
      }
      sums.write(sum);
      at.Next(region);
    }
    BERTILE_DRAIN();
    PartialMoments partial;
    partial.features = parameters.header.features;
    partial.epsilon = parameters.header.epsilon;
  Partial_Row:
    for (int row = 0; row < region.row_count; ++row) {
#pragma HLS PIPELINE II = 1
    Partial_Lane:
      for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
        partial.total[lane] = total[row][lane];
        partial.squares[lane] = squares[row][lane];
      }
      partials.write(partial);
    }
    BERTILE_DRAIN();
  }
}

// Second pass: normalize, scale, saturate to int8. The word goes to the engine, to the next residual and, if asked, to
// memory. Loaded input words take the same way.
inline void NormApply(Stream<NormCommand>& commands, Stream<WideWord>& sums, Stream<RowMoments>& moments,
                      Stream<Beat>& parameter_beats, Stream<Word>& loaded, Stream<Word>& residuals,
                      Stream<Word>& stored, Stream<Beat>& words) {
  NormParameters parameters;
  RowMoments row_moments[kCapacityRowBlocks];
#pragma HLS AGGREGATE variable = row_moments compact = bit
Apply_Command:
  while (true) {
    const NormCommand command = commands.read();
    const Region& region = command.region;
    if (region.tiles == 0) return;
    if (!command.is_load) {
      LoadNormParameters(parameter_beats, region.tiles, parameters);
    Apply_Moments:
      for (int row = 0; row < region.row_count; ++row) row_moments[row] = moments.read();
    }
    RegionCounter at;
  Apply_Word:
    for (uint32_t i = 0; i < RegionWords(region); ++i) {
#pragma HLS PIPELINE II = 1
      Word word;
      if (command.is_load) {
        word = loaded.read();
      } else {
        const WideWord sum = sums.read();
        const LayernormFeature feature = parameters.feature[at.column()];
        const RowMoments& row = row_moments[at.row];
      Apply_Lane:
        for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
          const int64_t centered = int64_t(parameters.header.features) * sum.lane[lane] - row.total[lane];
          const int64_t normalized = SaturateTo(RoundingShift(centered * row.mantissa[lane], row.shift[lane]), 16);
          const int64_t scaled = normalized * feature.gain + feature.offset;
          word.lane[lane] = int8_t(SaturateTo(RoundingShift(scaled, parameters.header.output_shift), 8));
        }
      }
      Beat beat = AddressedWord(TargetAddress(region, at), kWordKindActivation);
    Apply_Byte:
      for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
        beat.byte[lane] = uint8_t(word.lane[lane]);
      }
      words.write(beat);
      if (command.feeds_residual) residuals.write(word);
      if (command.store) stored.write(word);
      at.Next(region);
    }
    BERTILE_DRAIN();
  }
}

}  // namespace bertile
