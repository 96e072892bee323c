// Generated from spec/accelerator.toml by `make spec`; do not edit.
#pragma once

#include <cstdint>

namespace bertile {

static const uint64_t kSpecDigest = 0xDB6267D17D9AA84FULL;
static const int kContractVersion = 1;
static const int kContractProgramMagic = 1162630210;
static const int kWordTokens = 32;
static const int kArrayOutputs = 16;
static const int kArrayInputs = 4;
static const int kArrayFieldBits = 18;
static const int kPacketBeatBytes = 64;
static const int kPacketVectors = 32;
static const int kPacketVectorsPerBeat = 4;
static const int kPacketIndexBits = 12;
static const int kPacketValidBit = 14;
static const int kPacketLastBit = 15;
static const int kTileParameterBeats = 2;
static const int kCapacityHidden = 1024;
static const int kCapacityFfn = 4096;
static const int kCapacityTokens = 512;
static const int kCapacitySequences = 16;
static const int kCapacityHeadSizes = 64;
static const int kCapacityActivationBanks = 12;
static const int kCapacityActivationBankWords = 4096;
static const int kCapacityTileBeats = 1024;
static const int kCapacityTileMemoryBeats = 4096;
static const int kCapacityProbabilitySlots = 3;
static const int kStreamCommands = 16;
static const int kStreamTiles = 64;
static const int kStreamWords = 2048;
static const int kStreamResults = 64;
static const int kStreamWordsFrom = 2048;
static const int kStreamMomentsFrom = 128;
static const int kCooperationUnits = 3;
static const int kCooperationMomentBeats = 6;
static const int kLawMultiplierBits = 16;
static const int kLawShiftMax = 47;
static const int kLawScoreFractionBits = 8;
static const int kLawExponentialBits = 16;
static const int kLawProbabilityMax = 255;
static const int kLawRowScaleBits = 16;
static const int kLawGeluIndexBits = 10;
static const int kLawNormFractionBits = 10;
static const int kLawRsqrtBits = 32;
static const int kCapacityRowBlocks = 16;
static const int kCapacityActivationWords = 49152;

static const int kOpcodeEnd = 0;
static const int kOpcodeTables = 1;
static const int kOpcodeLoad = 2;
static const int kOpcodeGemm = 3;
static const int kOpcodeAttention = 4;
static const int kOpcodeJoin = 5;
static const int kPostNone = 0;
static const int kPostActivation = 1;
static const int kPostLayernorm = 2;
static const int kEngineOpcodeHalt = 0;
static const int kEngineOpcodeGemm = 1;
static const int kEngineOpcodeScores = 2;
static const int kEngineOpcodeContext = 3;
static const int kWordKindActivation = 0;
static const int kWordKindRowScale = 1;
static const int kFlagUnsignedSource = 0;
static const int kFlagReload = 1;
static const int kFlagStore = 2;
static const int kFlagTrace = 3;
static const int kFlagShare = 4;
static const int kLaunchFlagTrace = 0;
static const int kLaunchFlagCooperative = 1;
static const int kErrorNone = 0;
static const int kErrorDigest = 1;
static const int kErrorOpcode = 2;
static const int kErrorLaunch = 3;
static const int kErrorEngine = 4;
static const int kErrorPeer = 5;
static const int kErrorRunning = 6;
static const int kEngineErrorNone = 0;
static const int kEngineErrorOpcode = 1;
static const int kEngineErrorShape = 2;
static const int kEngineErrorIndex = 3;
static const int kEngineErrorAddress = 4;
static const int kEngineErrorPacket = 5;
static const int kEngineErrorWord = 6;

struct Descriptor {
  static const int kBytes = 64;
  uint8_t opcode;  // opcode
  uint8_t post;  // vector stage behind a gemm
  uint8_t flags;  // bits of `flag`
  uint8_t head_size;  // attention: features of the head
  uint8_t row_first;  // first row block
  uint8_t row_count;  // row blocks at most; clipped to the launch, skipped when none is left
  uint16_t trace_slot;  // layernorm: index of its output in a traced run
  uint16_t source;  // activation memory address of the source (attention: queries)
  uint16_t source_stride;  // words of a row block at the source (attention: of queries, keys and values)
  uint16_t target;  // activation memory address of the result
  uint16_t target_stride;  // words of a row block at the target
  uint16_t key;  // attention: address of the keys
  uint16_t value;  // attention: address of the values
  uint16_t probability;  // attention: address of the softmax output slots
  uint16_t tiles;  // gemm, load: output tiles (of 16 features)
  uint32_t tile_offset;  // gemm: first beat of its tiles in the weight image
  uint32_t tile_beats;  // gemm: beats of its tiles
  uint32_t parameter_offset;  // first beat of table or LayerNorm parameters in the parameter image
  uint32_t parameter_beats;  // beats of these parameters; layernorm: of this unit's features, without header
  uint16_t score_multiplier;  // attention: requantization of the scores
  uint8_t score_shift;  // attention: requantization of the scores
  uint8_t context_shift;  // attention: requantization of the context
  uint32_t context_numerator;  // attention: numerator of the row scale
  uint16_t peer_tiles_0;  // join: tiles that peer 0 has shared of these row blocks
  uint16_t peer_tiles_1;  // join: tiles that peer 1 has shared of these row blocks
  uint16_t features_before;  // load, gemm: features of other units in front of the target, in its row
};

template <typename Bytes>
inline Descriptor DecodeDescriptor(const Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  Descriptor record;
  record.opcode = uint8_t((uint8_t(uint8_t(bytes[base + 0])) << 0));
  record.post = uint8_t((uint8_t(uint8_t(bytes[base + 1])) << 0));
  record.flags = uint8_t((uint8_t(uint8_t(bytes[base + 2])) << 0));
  record.head_size = uint8_t((uint8_t(uint8_t(bytes[base + 3])) << 0));
  record.row_first = uint8_t((uint8_t(uint8_t(bytes[base + 4])) << 0));
  record.row_count = uint8_t((uint8_t(uint8_t(bytes[base + 5])) << 0));
  record.trace_slot = uint16_t((uint16_t(uint8_t(bytes[base + 6])) << 0) | (uint16_t(uint8_t(bytes[base + 7])) << 8));
  record.source = uint16_t((uint16_t(uint8_t(bytes[base + 8])) << 0) | (uint16_t(uint8_t(bytes[base + 9])) << 8));
  record.source_stride = uint16_t((uint16_t(uint8_t(bytes[base + 10])) << 0) | (uint16_t(uint8_t(bytes[base + 11])) << 8));
  record.target = uint16_t((uint16_t(uint8_t(bytes[base + 12])) << 0) | (uint16_t(uint8_t(bytes[base + 13])) << 8));
  record.target_stride = uint16_t((uint16_t(uint8_t(bytes[base + 14])) << 0) | (uint16_t(uint8_t(bytes[base + 15])) << 8));
  record.key = uint16_t((uint16_t(uint8_t(bytes[base + 16])) << 0) | (uint16_t(uint8_t(bytes[base + 17])) << 8));
  record.value = uint16_t((uint16_t(uint8_t(bytes[base + 18])) << 0) | (uint16_t(uint8_t(bytes[base + 19])) << 8));
  record.probability = uint16_t((uint16_t(uint8_t(bytes[base + 20])) << 0) | (uint16_t(uint8_t(bytes[base + 21])) << 8));
  record.tiles = uint16_t((uint16_t(uint8_t(bytes[base + 22])) << 0) | (uint16_t(uint8_t(bytes[base + 23])) << 8));
  record.tile_offset = uint32_t((uint32_t(uint8_t(bytes[base + 24])) << 0) | (uint32_t(uint8_t(bytes[base + 25])) << 8) | (uint32_t(uint8_t(bytes[base + 26])) << 16) | (uint32_t(uint8_t(bytes[base + 27])) << 24));
  record.tile_beats = uint32_t((uint32_t(uint8_t(bytes[base + 28])) << 0) | (uint32_t(uint8_t(bytes[base + 29])) << 8) | (uint32_t(uint8_t(bytes[base + 30])) << 16) | (uint32_t(uint8_t(bytes[base + 31])) << 24));
  record.parameter_offset = uint32_t((uint32_t(uint8_t(bytes[base + 32])) << 0) | (uint32_t(uint8_t(bytes[base + 33])) << 8) | (uint32_t(uint8_t(bytes[base + 34])) << 16) | (uint32_t(uint8_t(bytes[base + 35])) << 24));
  record.parameter_beats = uint32_t((uint32_t(uint8_t(bytes[base + 36])) << 0) | (uint32_t(uint8_t(bytes[base + 37])) << 8) | (uint32_t(uint8_t(bytes[base + 38])) << 16) | (uint32_t(uint8_t(bytes[base + 39])) << 24));
  record.score_multiplier = uint16_t((uint16_t(uint8_t(bytes[base + 40])) << 0) | (uint16_t(uint8_t(bytes[base + 41])) << 8));
  record.score_shift = uint8_t((uint8_t(uint8_t(bytes[base + 42])) << 0));
  record.context_shift = uint8_t((uint8_t(uint8_t(bytes[base + 43])) << 0));
  record.context_numerator = uint32_t((uint32_t(uint8_t(bytes[base + 44])) << 0) | (uint32_t(uint8_t(bytes[base + 45])) << 8) | (uint32_t(uint8_t(bytes[base + 46])) << 16) | (uint32_t(uint8_t(bytes[base + 47])) << 24));
  record.peer_tiles_0 = uint16_t((uint16_t(uint8_t(bytes[base + 48])) << 0) | (uint16_t(uint8_t(bytes[base + 49])) << 8));
  record.peer_tiles_1 = uint16_t((uint16_t(uint8_t(bytes[base + 50])) << 0) | (uint16_t(uint8_t(bytes[base + 51])) << 8));
  record.features_before = uint16_t((uint16_t(uint8_t(bytes[base + 52])) << 0) | (uint16_t(uint8_t(bytes[base + 53])) << 8));
  return record;
}

template <typename Bytes>
inline void EncodeDescriptor(const Descriptor& record, Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  bytes[base + 0] = uint8_t(record.opcode >> 0);
  bytes[base + 1] = uint8_t(record.post >> 0);
  bytes[base + 2] = uint8_t(record.flags >> 0);
  bytes[base + 3] = uint8_t(record.head_size >> 0);
  bytes[base + 4] = uint8_t(record.row_first >> 0);
  bytes[base + 5] = uint8_t(record.row_count >> 0);
  bytes[base + 6] = uint8_t(record.trace_slot >> 0);
  bytes[base + 7] = uint8_t(record.trace_slot >> 8);
  bytes[base + 8] = uint8_t(record.source >> 0);
  bytes[base + 9] = uint8_t(record.source >> 8);
  bytes[base + 10] = uint8_t(record.source_stride >> 0);
  bytes[base + 11] = uint8_t(record.source_stride >> 8);
  bytes[base + 12] = uint8_t(record.target >> 0);
  bytes[base + 13] = uint8_t(record.target >> 8);
  bytes[base + 14] = uint8_t(record.target_stride >> 0);
  bytes[base + 15] = uint8_t(record.target_stride >> 8);
  bytes[base + 16] = uint8_t(record.key >> 0);
  bytes[base + 17] = uint8_t(record.key >> 8);
  bytes[base + 18] = uint8_t(record.value >> 0);
  bytes[base + 19] = uint8_t(record.value >> 8);
  bytes[base + 20] = uint8_t(record.probability >> 0);
  bytes[base + 21] = uint8_t(record.probability >> 8);
  bytes[base + 22] = uint8_t(record.tiles >> 0);
  bytes[base + 23] = uint8_t(record.tiles >> 8);
  bytes[base + 24] = uint8_t(record.tile_offset >> 0);
  bytes[base + 25] = uint8_t(record.tile_offset >> 8);
  bytes[base + 26] = uint8_t(record.tile_offset >> 16);
  bytes[base + 27] = uint8_t(record.tile_offset >> 24);
  bytes[base + 28] = uint8_t(record.tile_beats >> 0);
  bytes[base + 29] = uint8_t(record.tile_beats >> 8);
  bytes[base + 30] = uint8_t(record.tile_beats >> 16);
  bytes[base + 31] = uint8_t(record.tile_beats >> 24);
  bytes[base + 32] = uint8_t(record.parameter_offset >> 0);
  bytes[base + 33] = uint8_t(record.parameter_offset >> 8);
  bytes[base + 34] = uint8_t(record.parameter_offset >> 16);
  bytes[base + 35] = uint8_t(record.parameter_offset >> 24);
  bytes[base + 36] = uint8_t(record.parameter_beats >> 0);
  bytes[base + 37] = uint8_t(record.parameter_beats >> 8);
  bytes[base + 38] = uint8_t(record.parameter_beats >> 16);
  bytes[base + 39] = uint8_t(record.parameter_beats >> 24);
  bytes[base + 40] = uint8_t(record.score_multiplier >> 0);
  bytes[base + 41] = uint8_t(record.score_multiplier >> 8);
  bytes[base + 42] = uint8_t(record.score_shift >> 0);
  bytes[base + 43] = uint8_t(record.context_shift >> 0);
  bytes[base + 44] = uint8_t(record.context_numerator >> 0);
  bytes[base + 45] = uint8_t(record.context_numerator >> 8);
  bytes[base + 46] = uint8_t(record.context_numerator >> 16);
  bytes[base + 47] = uint8_t(record.context_numerator >> 24);
  bytes[base + 48] = uint8_t(record.peer_tiles_0 >> 0);
  bytes[base + 49] = uint8_t(record.peer_tiles_0 >> 8);
  bytes[base + 50] = uint8_t(record.peer_tiles_1 >> 0);
  bytes[base + 51] = uint8_t(record.peer_tiles_1 >> 8);
  bytes[base + 52] = uint8_t(record.features_before >> 0);
  bytes[base + 53] = uint8_t(record.features_before >> 8);
}

struct Command {
  static const int kBytes = 64;
  uint8_t opcode;  // engine_opcode
  uint8_t flags;  // bits of `flag`
  uint8_t row_first;  // first row block
  uint8_t row_count;  // row blocks
  uint32_t await_words;  // words the engine must have received since the launch began before it starts
  uint16_t source;  // address of row block 0 of the array's token operand
  uint16_t source_stride;  // words of a row block there
  uint16_t weight;  // scores, context: address of keys or values of the sequence's first row block
  uint16_t weight_stride;  // words of a row block there
  uint16_t tiles;  // output tiles
  uint16_t keys;  // scores, context: tokens of the sequence
  uint8_t head_size;  // scores, context: features of the head
  uint8_t shift;  // scores, context: rounding shift
  uint16_t multiplier;  // scores: multiplier
  uint16_t row_scale_slot;  // context: slot of the row scales
  int16_t limit_low;  // saturation of the results
  int16_t limit_high;  // saturation of the results
  uint32_t await_weight;  // scores, context: words the engine must have received before it fetches keys or values
  uint32_t await_peer_0;  // words the engine must have received from peer 0 since the launch began
  uint32_t await_peer_1;  // the same from peer 1
};

template <typename Bytes>
inline Command DecodeCommand(const Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  Command record;
  record.opcode = uint8_t((uint8_t(uint8_t(bytes[base + 0])) << 0));
  record.flags = uint8_t((uint8_t(uint8_t(bytes[base + 1])) << 0));
  record.row_first = uint8_t((uint8_t(uint8_t(bytes[base + 2])) << 0));
  record.row_count = uint8_t((uint8_t(uint8_t(bytes[base + 3])) << 0));
  record.await_words = uint32_t((uint32_t(uint8_t(bytes[base + 4])) << 0) | (uint32_t(uint8_t(bytes[base + 5])) << 8) | (uint32_t(uint8_t(bytes[base + 6])) << 16) | (uint32_t(uint8_t(bytes[base + 7])) << 24));
  record.source = uint16_t((uint16_t(uint8_t(bytes[base + 8])) << 0) | (uint16_t(uint8_t(bytes[base + 9])) << 8));
  record.source_stride = uint16_t((uint16_t(uint8_t(bytes[base + 10])) << 0) | (uint16_t(uint8_t(bytes[base + 11])) << 8));
  record.weight = uint16_t((uint16_t(uint8_t(bytes[base + 12])) << 0) | (uint16_t(uint8_t(bytes[base + 13])) << 8));
  record.weight_stride = uint16_t((uint16_t(uint8_t(bytes[base + 14])) << 0) | (uint16_t(uint8_t(bytes[base + 15])) << 8));
  record.tiles = uint16_t((uint16_t(uint8_t(bytes[base + 16])) << 0) | (uint16_t(uint8_t(bytes[base + 17])) << 8));
  record.keys = uint16_t((uint16_t(uint8_t(bytes[base + 18])) << 0) | (uint16_t(uint8_t(bytes[base + 19])) << 8));
  record.head_size = uint8_t((uint8_t(uint8_t(bytes[base + 20])) << 0));
  record.shift = uint8_t((uint8_t(uint8_t(bytes[base + 21])) << 0));
  record.multiplier = uint16_t((uint16_t(uint8_t(bytes[base + 22])) << 0) | (uint16_t(uint8_t(bytes[base + 23])) << 8));
  record.row_scale_slot = uint16_t((uint16_t(uint8_t(bytes[base + 24])) << 0) | (uint16_t(uint8_t(bytes[base + 25])) << 8));
  record.limit_low = int16_t((uint16_t(uint8_t(bytes[base + 26])) << 0) | (uint16_t(uint8_t(bytes[base + 27])) << 8));
  record.limit_high = int16_t((uint16_t(uint8_t(bytes[base + 28])) << 0) | (uint16_t(uint8_t(bytes[base + 29])) << 8));
  record.await_weight = uint32_t((uint32_t(uint8_t(bytes[base + 32])) << 0) | (uint32_t(uint8_t(bytes[base + 33])) << 8) | (uint32_t(uint8_t(bytes[base + 34])) << 16) | (uint32_t(uint8_t(bytes[base + 35])) << 24));
  record.await_peer_0 = uint32_t((uint32_t(uint8_t(bytes[base + 36])) << 0) | (uint32_t(uint8_t(bytes[base + 37])) << 8) | (uint32_t(uint8_t(bytes[base + 38])) << 16) | (uint32_t(uint8_t(bytes[base + 39])) << 24));
  record.await_peer_1 = uint32_t((uint32_t(uint8_t(bytes[base + 40])) << 0) | (uint32_t(uint8_t(bytes[base + 41])) << 8) | (uint32_t(uint8_t(bytes[base + 42])) << 16) | (uint32_t(uint8_t(bytes[base + 43])) << 24));
  return record;
}

template <typename Bytes>
inline void EncodeCommand(const Command& record, Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  bytes[base + 0] = uint8_t(record.opcode >> 0);
  bytes[base + 1] = uint8_t(record.flags >> 0);
  bytes[base + 2] = uint8_t(record.row_first >> 0);
  bytes[base + 3] = uint8_t(record.row_count >> 0);
  bytes[base + 4] = uint8_t(record.await_words >> 0);
  bytes[base + 5] = uint8_t(record.await_words >> 8);
  bytes[base + 6] = uint8_t(record.await_words >> 16);
  bytes[base + 7] = uint8_t(record.await_words >> 24);
  bytes[base + 8] = uint8_t(record.source >> 0);
  bytes[base + 9] = uint8_t(record.source >> 8);
  bytes[base + 10] = uint8_t(record.source_stride >> 0);
  bytes[base + 11] = uint8_t(record.source_stride >> 8);
  bytes[base + 12] = uint8_t(record.weight >> 0);
  bytes[base + 13] = uint8_t(record.weight >> 8);
  bytes[base + 14] = uint8_t(record.weight_stride >> 0);
  bytes[base + 15] = uint8_t(record.weight_stride >> 8);
  bytes[base + 16] = uint8_t(record.tiles >> 0);
  bytes[base + 17] = uint8_t(record.tiles >> 8);
  bytes[base + 18] = uint8_t(record.keys >> 0);
  bytes[base + 19] = uint8_t(record.keys >> 8);
  bytes[base + 20] = uint8_t(record.head_size >> 0);
  bytes[base + 21] = uint8_t(record.shift >> 0);
  bytes[base + 22] = uint8_t(record.multiplier >> 0);
  bytes[base + 23] = uint8_t(record.multiplier >> 8);
  bytes[base + 24] = uint8_t(record.row_scale_slot >> 0);
  bytes[base + 25] = uint8_t(record.row_scale_slot >> 8);
  bytes[base + 26] = uint8_t(record.limit_low >> 0);
  bytes[base + 27] = uint8_t(record.limit_low >> 8);
  bytes[base + 28] = uint8_t(record.limit_high >> 0);
  bytes[base + 29] = uint8_t(record.limit_high >> 8);
  bytes[base + 32] = uint8_t(record.await_weight >> 0);
  bytes[base + 33] = uint8_t(record.await_weight >> 8);
  bytes[base + 34] = uint8_t(record.await_weight >> 16);
  bytes[base + 35] = uint8_t(record.await_weight >> 24);
  bytes[base + 36] = uint8_t(record.await_peer_0 >> 0);
  bytes[base + 37] = uint8_t(record.await_peer_0 >> 8);
  bytes[base + 38] = uint8_t(record.await_peer_0 >> 16);
  bytes[base + 39] = uint8_t(record.await_peer_0 >> 24);
  bytes[base + 40] = uint8_t(record.await_peer_1 >> 0);
  bytes[base + 41] = uint8_t(record.await_peer_1 >> 8);
  bytes[base + 42] = uint8_t(record.await_peer_1 >> 16);
  bytes[base + 43] = uint8_t(record.await_peer_1 >> 24);
}

struct EngineWord {
  static const int kBytes = 64;
  uint16_t address;  // activation: address; row scale: 2 x slot + half. Bytes 0..31 are the lanes
  uint8_t kind;  // word_kind
};

template <typename Bytes>
inline EngineWord DecodeEngineWord(const Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  EngineWord record;
  record.address = uint16_t((uint16_t(uint8_t(bytes[base + 32])) << 0) | (uint16_t(uint8_t(bytes[base + 33])) << 8));
  record.kind = uint8_t((uint8_t(uint8_t(bytes[base + 34])) << 0));
  return record;
}

template <typename Bytes>
inline void EncodeEngineWord(const EngineWord& record, Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  bytes[base + 32] = uint8_t(record.address >> 0);
  bytes[base + 33] = uint8_t(record.address >> 8);
  bytes[base + 34] = uint8_t(record.kind >> 0);
}

struct EngineStatus {
  static const int kBytes = 64;
  uint64_t spec_digest;  // of the engine
  uint32_t error;  // engine_error, the first of the launch
  uint64_t cycles;  // clock cycles from the first command to halt; 0: not counted
};

template <typename Bytes>
inline EngineStatus DecodeEngineStatus(const Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  EngineStatus record;
  record.spec_digest = uint64_t((uint64_t(uint8_t(bytes[base + 0])) << 0) | (uint64_t(uint8_t(bytes[base + 1])) << 8) | (uint64_t(uint8_t(bytes[base + 2])) << 16) | (uint64_t(uint8_t(bytes[base + 3])) << 24) | (uint64_t(uint8_t(bytes[base + 4])) << 32) | (uint64_t(uint8_t(bytes[base + 5])) << 40) | (uint64_t(uint8_t(bytes[base + 6])) << 48) | (uint64_t(uint8_t(bytes[base + 7])) << 56));
  record.error = uint32_t((uint32_t(uint8_t(bytes[base + 8])) << 0) | (uint32_t(uint8_t(bytes[base + 9])) << 8) | (uint32_t(uint8_t(bytes[base + 10])) << 16) | (uint32_t(uint8_t(bytes[base + 11])) << 24));
  record.cycles = uint64_t((uint64_t(uint8_t(bytes[base + 16])) << 0) | (uint64_t(uint8_t(bytes[base + 17])) << 8) | (uint64_t(uint8_t(bytes[base + 18])) << 16) | (uint64_t(uint8_t(bytes[base + 19])) << 24) | (uint64_t(uint8_t(bytes[base + 20])) << 32) | (uint64_t(uint8_t(bytes[base + 21])) << 40) | (uint64_t(uint8_t(bytes[base + 22])) << 48) | (uint64_t(uint8_t(bytes[base + 23])) << 56));
  return record;
}

template <typename Bytes>
inline void EncodeEngineStatus(const EngineStatus& record, Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  bytes[base + 0] = uint8_t(record.spec_digest >> 0);
  bytes[base + 1] = uint8_t(record.spec_digest >> 8);
  bytes[base + 2] = uint8_t(record.spec_digest >> 16);
  bytes[base + 3] = uint8_t(record.spec_digest >> 24);
  bytes[base + 4] = uint8_t(record.spec_digest >> 32);
  bytes[base + 5] = uint8_t(record.spec_digest >> 40);
  bytes[base + 6] = uint8_t(record.spec_digest >> 48);
  bytes[base + 7] = uint8_t(record.spec_digest >> 56);
  bytes[base + 8] = uint8_t(record.error >> 0);
  bytes[base + 9] = uint8_t(record.error >> 8);
  bytes[base + 10] = uint8_t(record.error >> 16);
  bytes[base + 11] = uint8_t(record.error >> 24);
  bytes[base + 16] = uint8_t(record.cycles >> 0);
  bytes[base + 17] = uint8_t(record.cycles >> 8);
  bytes[base + 18] = uint8_t(record.cycles >> 16);
  bytes[base + 19] = uint8_t(record.cycles >> 24);
  bytes[base + 20] = uint8_t(record.cycles >> 32);
  bytes[base + 21] = uint8_t(record.cycles >> 40);
  bytes[base + 22] = uint8_t(record.cycles >> 48);
  bytes[base + 23] = uint8_t(record.cycles >> 56);
}

struct TileParameter {
  static const int kBytes = 8;
  int32_t bias;  // added to the accumulator
  uint16_t multiplier;  // requantization
  uint8_t shift;  // requantization
};

template <typename Bytes>
inline TileParameter DecodeTileParameter(const Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  TileParameter record;
  record.bias = int32_t((uint32_t(uint8_t(bytes[base + 0])) << 0) | (uint32_t(uint8_t(bytes[base + 1])) << 8) | (uint32_t(uint8_t(bytes[base + 2])) << 16) | (uint32_t(uint8_t(bytes[base + 3])) << 24));
  record.multiplier = uint16_t((uint16_t(uint8_t(bytes[base + 4])) << 0) | (uint16_t(uint8_t(bytes[base + 5])) << 8));
  record.shift = uint8_t((uint8_t(uint8_t(bytes[base + 6])) << 0));
  return record;
}

template <typename Bytes>
inline void EncodeTileParameter(const TileParameter& record, Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  bytes[base + 0] = uint8_t(record.bias >> 0);
  bytes[base + 1] = uint8_t(record.bias >> 8);
  bytes[base + 2] = uint8_t(record.bias >> 16);
  bytes[base + 3] = uint8_t(record.bias >> 24);
  bytes[base + 4] = uint8_t(record.multiplier >> 0);
  bytes[base + 5] = uint8_t(record.multiplier >> 8);
  bytes[base + 6] = uint8_t(record.shift >> 0);
}

struct LayernormHeader {
  static const int kBytes = 64;
  int64_t epsilon;  // added to the scaled variance, at least 1
  uint16_t features;  // hidden size
  uint8_t residual_shift;  // rounding shift of the residual
  uint8_t output_shift;  // rounding shift of the output
};

template <typename Bytes>
inline LayernormHeader DecodeLayernormHeader(const Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  LayernormHeader record;
  record.epsilon = int64_t((uint64_t(uint8_t(bytes[base + 0])) << 0) | (uint64_t(uint8_t(bytes[base + 1])) << 8) | (uint64_t(uint8_t(bytes[base + 2])) << 16) | (uint64_t(uint8_t(bytes[base + 3])) << 24) | (uint64_t(uint8_t(bytes[base + 4])) << 32) | (uint64_t(uint8_t(bytes[base + 5])) << 40) | (uint64_t(uint8_t(bytes[base + 6])) << 48) | (uint64_t(uint8_t(bytes[base + 7])) << 56));
  record.features = uint16_t((uint16_t(uint8_t(bytes[base + 8])) << 0) | (uint16_t(uint8_t(bytes[base + 9])) << 8));
  record.residual_shift = uint8_t((uint8_t(uint8_t(bytes[base + 10])) << 0));
  record.output_shift = uint8_t((uint8_t(uint8_t(bytes[base + 11])) << 0));
  return record;
}

template <typename Bytes>
inline void EncodeLayernormHeader(const LayernormHeader& record, Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  bytes[base + 0] = uint8_t(record.epsilon >> 0);
  bytes[base + 1] = uint8_t(record.epsilon >> 8);
  bytes[base + 2] = uint8_t(record.epsilon >> 16);
  bytes[base + 3] = uint8_t(record.epsilon >> 24);
  bytes[base + 4] = uint8_t(record.epsilon >> 32);
  bytes[base + 5] = uint8_t(record.epsilon >> 40);
  bytes[base + 6] = uint8_t(record.epsilon >> 48);
  bytes[base + 7] = uint8_t(record.epsilon >> 56);
  bytes[base + 8] = uint8_t(record.features >> 0);
  bytes[base + 9] = uint8_t(record.features >> 8);
  bytes[base + 10] = uint8_t(record.residual_shift >> 0);
  bytes[base + 11] = uint8_t(record.output_shift >> 0);
}

struct LayernormFeature {
  static const int kBytes = 8;
  int32_t offset;  // added before the output shift
  int16_t gain;  // multiplies the normalized value
  uint16_t residual_multiplier;  // scale of the residual over the scale of the sum
};

template <typename Bytes>
inline LayernormFeature DecodeLayernormFeature(const Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  LayernormFeature record;
  record.offset = int32_t((uint32_t(uint8_t(bytes[base + 0])) << 0) | (uint32_t(uint8_t(bytes[base + 1])) << 8) | (uint32_t(uint8_t(bytes[base + 2])) << 16) | (uint32_t(uint8_t(bytes[base + 3])) << 24));
  record.gain = int16_t((uint16_t(uint8_t(bytes[base + 4])) << 0) | (uint16_t(uint8_t(bytes[base + 5])) << 8));
  record.residual_multiplier = uint16_t((uint16_t(uint8_t(bytes[base + 6])) << 0) | (uint16_t(uint8_t(bytes[base + 7])) << 8));
  return record;
}

template <typename Bytes>
inline void EncodeLayernormFeature(const LayernormFeature& record, Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  bytes[base + 0] = uint8_t(record.offset >> 0);
  bytes[base + 1] = uint8_t(record.offset >> 8);
  bytes[base + 2] = uint8_t(record.offset >> 16);
  bytes[base + 3] = uint8_t(record.offset >> 24);
  bytes[base + 4] = uint8_t(record.gain >> 0);
  bytes[base + 5] = uint8_t(record.gain >> 8);
  bytes[base + 6] = uint8_t(record.residual_multiplier >> 0);
  bytes[base + 7] = uint8_t(record.residual_multiplier >> 8);
}

struct Launch {
  static const int kBytes = 64;
  uint32_t magic;  // program_magic
  uint32_t flags;  // bits of `launch_flag`
  uint64_t spec_digest;  // first eight bytes of the spec digest
  uint32_t program_offset;  // first descriptor, in beats of the program image
  uint16_t hidden;  // words of a row block of input and output: this unit's features
  uint16_t row_blocks;  // of all sequences
  uint16_t sequences;  // entries that follow
};

template <typename Bytes>
inline Launch DecodeLaunch(const Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  Launch record;
  record.magic = uint32_t((uint32_t(uint8_t(bytes[base + 0])) << 0) | (uint32_t(uint8_t(bytes[base + 1])) << 8) | (uint32_t(uint8_t(bytes[base + 2])) << 16) | (uint32_t(uint8_t(bytes[base + 3])) << 24));
  record.flags = uint32_t((uint32_t(uint8_t(bytes[base + 4])) << 0) | (uint32_t(uint8_t(bytes[base + 5])) << 8) | (uint32_t(uint8_t(bytes[base + 6])) << 16) | (uint32_t(uint8_t(bytes[base + 7])) << 24));
  record.spec_digest = uint64_t((uint64_t(uint8_t(bytes[base + 8])) << 0) | (uint64_t(uint8_t(bytes[base + 9])) << 8) | (uint64_t(uint8_t(bytes[base + 10])) << 16) | (uint64_t(uint8_t(bytes[base + 11])) << 24) | (uint64_t(uint8_t(bytes[base + 12])) << 32) | (uint64_t(uint8_t(bytes[base + 13])) << 40) | (uint64_t(uint8_t(bytes[base + 14])) << 48) | (uint64_t(uint8_t(bytes[base + 15])) << 56));
  record.program_offset = uint32_t((uint32_t(uint8_t(bytes[base + 16])) << 0) | (uint32_t(uint8_t(bytes[base + 17])) << 8) | (uint32_t(uint8_t(bytes[base + 18])) << 16) | (uint32_t(uint8_t(bytes[base + 19])) << 24));
  record.hidden = uint16_t((uint16_t(uint8_t(bytes[base + 20])) << 0) | (uint16_t(uint8_t(bytes[base + 21])) << 8));
  record.row_blocks = uint16_t((uint16_t(uint8_t(bytes[base + 22])) << 0) | (uint16_t(uint8_t(bytes[base + 23])) << 8));
  record.sequences = uint16_t((uint16_t(uint8_t(bytes[base + 24])) << 0) | (uint16_t(uint8_t(bytes[base + 25])) << 8));
  return record;
}

template <typename Bytes>
inline void EncodeLaunch(const Launch& record, Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  bytes[base + 0] = uint8_t(record.magic >> 0);
  bytes[base + 1] = uint8_t(record.magic >> 8);
  bytes[base + 2] = uint8_t(record.magic >> 16);
  bytes[base + 3] = uint8_t(record.magic >> 24);
  bytes[base + 4] = uint8_t(record.flags >> 0);
  bytes[base + 5] = uint8_t(record.flags >> 8);
  bytes[base + 6] = uint8_t(record.flags >> 16);
  bytes[base + 7] = uint8_t(record.flags >> 24);
  bytes[base + 8] = uint8_t(record.spec_digest >> 0);
  bytes[base + 9] = uint8_t(record.spec_digest >> 8);
  bytes[base + 10] = uint8_t(record.spec_digest >> 16);
  bytes[base + 11] = uint8_t(record.spec_digest >> 24);
  bytes[base + 12] = uint8_t(record.spec_digest >> 32);
  bytes[base + 13] = uint8_t(record.spec_digest >> 40);
  bytes[base + 14] = uint8_t(record.spec_digest >> 48);
  bytes[base + 15] = uint8_t(record.spec_digest >> 56);
  bytes[base + 16] = uint8_t(record.program_offset >> 0);
  bytes[base + 17] = uint8_t(record.program_offset >> 8);
  bytes[base + 18] = uint8_t(record.program_offset >> 16);
  bytes[base + 19] = uint8_t(record.program_offset >> 24);
  bytes[base + 20] = uint8_t(record.hidden >> 0);
  bytes[base + 21] = uint8_t(record.hidden >> 8);
  bytes[base + 22] = uint8_t(record.row_blocks >> 0);
  bytes[base + 23] = uint8_t(record.row_blocks >> 8);
  bytes[base + 24] = uint8_t(record.sequences >> 0);
  bytes[base + 25] = uint8_t(record.sequences >> 8);
}

struct LaunchSequence {
  static const int kBytes = 4;
  uint16_t row_first;  // first row block of the sequence
  uint16_t tokens;  // its length
};

template <typename Bytes>
inline LaunchSequence DecodeLaunchSequence(const Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  LaunchSequence record;
  record.row_first = uint16_t((uint16_t(uint8_t(bytes[base + 0])) << 0) | (uint16_t(uint8_t(bytes[base + 1])) << 8));
  record.tokens = uint16_t((uint16_t(uint8_t(bytes[base + 2])) << 0) | (uint16_t(uint8_t(bytes[base + 3])) << 8));
  return record;
}

template <typename Bytes>
inline void EncodeLaunchSequence(const LaunchSequence& record, Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  bytes[base + 0] = uint8_t(record.row_first >> 0);
  bytes[base + 1] = uint8_t(record.row_first >> 8);
  bytes[base + 2] = uint8_t(record.tokens >> 0);
  bytes[base + 3] = uint8_t(record.tokens >> 8);
}

struct Status {
  static const int kBytes = 64;
  uint64_t spec_digest;  // of the kernel
  uint32_t error;  // error
  uint32_t descriptors;  // descriptors executed
  uint32_t engine_error;  // engine_error, the first of the launch
  uint64_t engine_cycles;  // clock cycles of the engine from the first command to halt; 0: not counted
};

template <typename Bytes>
inline Status DecodeStatus(const Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  Status record;
  record.spec_digest = uint64_t((uint64_t(uint8_t(bytes[base + 0])) << 0) | (uint64_t(uint8_t(bytes[base + 1])) << 8) | (uint64_t(uint8_t(bytes[base + 2])) << 16) | (uint64_t(uint8_t(bytes[base + 3])) << 24) | (uint64_t(uint8_t(bytes[base + 4])) << 32) | (uint64_t(uint8_t(bytes[base + 5])) << 40) | (uint64_t(uint8_t(bytes[base + 6])) << 48) | (uint64_t(uint8_t(bytes[base + 7])) << 56));
  record.error = uint32_t((uint32_t(uint8_t(bytes[base + 8])) << 0) | (uint32_t(uint8_t(bytes[base + 9])) << 8) | (uint32_t(uint8_t(bytes[base + 10])) << 16) | (uint32_t(uint8_t(bytes[base + 11])) << 24));
  record.descriptors = uint32_t((uint32_t(uint8_t(bytes[base + 12])) << 0) | (uint32_t(uint8_t(bytes[base + 13])) << 8) | (uint32_t(uint8_t(bytes[base + 14])) << 16) | (uint32_t(uint8_t(bytes[base + 15])) << 24));
  record.engine_error = uint32_t((uint32_t(uint8_t(bytes[base + 16])) << 0) | (uint32_t(uint8_t(bytes[base + 17])) << 8) | (uint32_t(uint8_t(bytes[base + 18])) << 16) | (uint32_t(uint8_t(bytes[base + 19])) << 24));
  record.engine_cycles = uint64_t((uint64_t(uint8_t(bytes[base + 24])) << 0) | (uint64_t(uint8_t(bytes[base + 25])) << 8) | (uint64_t(uint8_t(bytes[base + 26])) << 16) | (uint64_t(uint8_t(bytes[base + 27])) << 24) | (uint64_t(uint8_t(bytes[base + 28])) << 32) | (uint64_t(uint8_t(bytes[base + 29])) << 40) | (uint64_t(uint8_t(bytes[base + 30])) << 48) | (uint64_t(uint8_t(bytes[base + 31])) << 56));
  return record;
}

template <typename Bytes>
inline void EncodeStatus(const Status& record, Bytes& bytes, int base = 0) {
#pragma HLS INLINE
  bytes[base + 0] = uint8_t(record.spec_digest >> 0);
  bytes[base + 1] = uint8_t(record.spec_digest >> 8);
  bytes[base + 2] = uint8_t(record.spec_digest >> 16);
  bytes[base + 3] = uint8_t(record.spec_digest >> 24);
  bytes[base + 4] = uint8_t(record.spec_digest >> 32);
  bytes[base + 5] = uint8_t(record.spec_digest >> 40);
  bytes[base + 6] = uint8_t(record.spec_digest >> 48);
  bytes[base + 7] = uint8_t(record.spec_digest >> 56);
  bytes[base + 8] = uint8_t(record.error >> 0);
  bytes[base + 9] = uint8_t(record.error >> 8);
  bytes[base + 10] = uint8_t(record.error >> 16);
  bytes[base + 11] = uint8_t(record.error >> 24);
  bytes[base + 12] = uint8_t(record.descriptors >> 0);
  bytes[base + 13] = uint8_t(record.descriptors >> 8);
  bytes[base + 14] = uint8_t(record.descriptors >> 16);
  bytes[base + 15] = uint8_t(record.descriptors >> 24);
  bytes[base + 16] = uint8_t(record.engine_error >> 0);
  bytes[base + 17] = uint8_t(record.engine_error >> 8);
  bytes[base + 18] = uint8_t(record.engine_error >> 16);
  bytes[base + 19] = uint8_t(record.engine_error >> 24);
  bytes[base + 24] = uint8_t(record.engine_cycles >> 0);
  bytes[base + 25] = uint8_t(record.engine_cycles >> 8);
  bytes[base + 26] = uint8_t(record.engine_cycles >> 16);
  bytes[base + 27] = uint8_t(record.engine_cycles >> 24);
  bytes[base + 28] = uint8_t(record.engine_cycles >> 32);
  bytes[base + 29] = uint8_t(record.engine_cycles >> 40);
  bytes[base + 30] = uint8_t(record.engine_cycles >> 48);
  bytes[base + 31] = uint8_t(record.engine_cycles >> 56);
}

}  // namespace bertile
