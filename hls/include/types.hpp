// The data that moves: words of activations, words of results, beats of memory.
#pragma once

#include <cstdint>

#include "bertile_spec.hpp"

namespace bertile {

// One feature of 32 tokens. Lanes are int8, or uint8 where a command says so.
struct Word {
  int8_t lane[kWordTokens];
};

// The same with 16-bit lanes: what the engine sends.
struct WideWord {
  int16_t lane[kWordTokens];
};

// 512 bits: memory, tile packets, commands, and words on their way to the engine.
struct Beat {
  uint8_t byte[kPacketBeatBytes];
};

static_assert(sizeof(Word) * 2 == sizeof(Beat), "an engine word has 32 data bytes and 32 for its address");
static_assert(sizeof(WideWord) == sizeof(Beat), "a result word fills the stream");
static_assert(kPacketVectorsPerBeat * kArrayOutputs == kPacketBeatBytes, "a beat of vectors is one array cycle");
static_assert(kArrayInputs == kPacketVectorsPerBeat, "a beat of vectors is one array cycle");
static_assert(kPacketVectors * 2 == kPacketBeatBytes, "the index entries of a packet fill one beat");

// A record as a result word: lane i holds bytes 2i and 2i + 1.
inline WideWord ToResult(const Beat& beat) {
#pragma HLS INLINE
  WideWord word;
Result_Lane:
  for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
    word.lane[lane] = int16_t(beat.byte[2 * lane] | beat.byte[2 * lane + 1] << 8);
  }
  return word;
}

inline Beat FromResult(const WideWord& word) {
#pragma HLS INLINE
  Beat beat;
Record_Lane:
  for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
    beat.byte[2 * lane] = uint8_t(word.lane[lane]);
    beat.byte[2 * lane + 1] = uint8_t(word.lane[lane] >> 8);
  }
  return beat;
}

inline int CeilDivide(int value, int divisor) {
#pragma HLS INLINE
  return (value + divisor - 1) / divisor;
}

}  // namespace bertile
