// What the sequencer tells the stages of the encoder kernel. Every stage ends at a command of count or kind zero.
#pragma once

#include "stream.hpp"
#include "types.hpp"

namespace bertile {

// Beats to read from a memory image.
struct ReadRequest {
  uint32_t offset;
  uint32_t beats;  // 0: end
};

// Which stage the parameter beats are for.
enum ParameterTarget { kForExponential, kForActivation, kForNorm };

struct ParameterRequest {
  ReadRequest read;
  ParameterTarget target;
};

// The order in which a region's words come: tile by tile, in a tile row block by row block, in a block 16 features.
struct Region {
  uint16_t tiles;  // 0: end
  uint16_t row_first;
  uint16_t row_count;
  uint16_t target;         // activation memory address of row block 0
  uint16_t target_stride;  // words of a row block there
};

enum Path { kActivatePath, kSoftmaxPath, kNormPath, kStatusPath };

// `count` words belong to the stage `path`.
struct RouteCommand {
  Path path;
  uint32_t count;  // 0: end
};

// The same for words on their way back. `share`: they go to the other units, too.
struct MergeCommand {
  Path path;
  uint32_t count;  // 0: end
  bool share;
};

struct ActivateCommand {
  Region region;
  bool look_up;  // through the table; otherwise the results are int8 already
};

enum SoftmaxKind { kSoftmaxEnd, kSoftmaxTable, kSoftmaxRow };

struct SoftmaxCommand {
  SoftmaxKind kind;
  uint16_t keys;
  uint16_t target;
  uint16_t slot;
  uint32_t numerator;
};

struct NormCommand {
  Region region;
  bool is_load;           // words come from memory, not from the engine
  bool feeds_residual;    // another LayerNorm follows
  bool store;             // results go to memory, too
  uint32_t store_offset;  // of row block 0, in words of the output buffer
};

enum MomentsKind { kMomentsEnd, kMomentsAgree, kMomentsAlone, kMomentsTogether };

// The moments of a LayerNorm, or what the units of a cooperative launch say to each other before it.
struct MomentsCommand {
  MomentsKind kind;
  uint16_t row_count;
  uint32_t error;  // agree: of this unit's launch
};

// Softmax and norm FIFOs hold what their second pass cannot use before the first has ended.
static const int kScoreDepth = 2 * kCapacityTokens;
static const int kSumDepth = kCapacityRowBlocks * kCapacityHidden;
static const int kResidualDepth = kSumDepth;
static const int kNormParameterDepth = 2 * (1 + kCapacityHidden * LayernormFeature::kBytes / kPacketBeatBytes);
static const int kCommandDepth = 8;
static const int kWordDepth = 64;
// Results that wait here for the words of a LayerNorm need not stop the array.
static const int kActivatedDepth = 256;

static_assert(kCapacitySequences * LaunchSequence::kBytes <= kPacketBeatBytes, "the sequence table is one beat");
static const int kAttentionWords = kCapacityProbabilitySlots * (kCapacityTokens + 2 + kCapacityHeadSizes);
static const int kSoftmaxWords = kCapacityProbabilitySlots * (kCapacityTokens + 2);
// Of a gemm, still under way behind it. The first context awaits those of the values.
static const int kProjectionWords = kStreamResults + kWordDepth + kActivatedDepth;
static_assert(kStreamWords > kAttentionWords && kStreamWords > kSoftmaxWords + kProjectionWords,
              "all words under way in attention fit the word stream, or engine and encoder may wait for each other");
// So many words of a load or LayerNorm fit the word stream while a gemm runs that does not await them.
static const int kUnawaitedWords = kStreamWords - kProjectionWords;

// Visit the words of a region in stream order; RegionCounter is the address generator of every stage.
struct RegionCounter {
  uint16_t tile, row, feature;
  RegionCounter() : tile(0), row(0), feature(0) {}

  void Next(const Region& region) {
#pragma HLS INLINE
    if (++feature < kArrayOutputs) return;
    feature = 0;
    if (++row < region.row_count) return;
    row = 0;
    ++tile;
  }
  int column() const { return tile * kArrayOutputs + feature; }
  int row_block(const Region& region) const { return region.row_first + row; }
};

inline uint32_t RegionWords(const Region& region) {
#pragma HLS INLINE
  return uint32_t(region.tiles) * region.row_count * kArrayOutputs;
}

inline uint16_t TargetAddress(const Region& region, const RegionCounter& at) {
#pragma HLS INLINE
  return uint16_t(region.target + at.row_block(region) * region.target_stride + at.column());
}

// A word for the engine: its lanes are filled by the caller.
inline Beat AddressedWord(uint16_t address, uint8_t kind) {
#pragma HLS INLINE
  Beat beat = {};
  EngineWord header;
  header.address = address;
  header.kind = kind;
  EncodeEngineWord(header, beat.byte);
  return beat;
}

}  // namespace bertile
