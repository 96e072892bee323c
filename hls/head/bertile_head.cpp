// The kernel of a task head: pooling here, pooler and classifier as hls4ml wrote them (docs/head.md).
//
// One kernel is one head: `bertile head build` writes its constants and the network beside each other.
#include "bertile_head.hpp"

#include "bertile_head_config.hpp"
#include "bertile_head_network.h"

namespace bertile {

static_assert(kHeadHidden <= kCapacityHidden, "a sum a hidden feature");
static_assert(kHeadLabels * 4 <= kPacketBeatBytes, "the logits of a sequence are one beat");
static_assert(result_t::width <= 32, "a logit is a 32-bit integer");
static_assert(input_t::width - input_t::iwidth == kHeadInputFraction, "the mean enters the network as it is");

// The launch table may come from a host built for another spec, be of another model, or be broken.
uint32_t CheckHeadLaunch(const Launch& launch, const LaunchSequence* sequences) {
  if (launch.magic != uint32_t(kContractProgramMagic) || launch.spec_digest != kSpecDigest) return kErrorDigest;
  if (launch.sequences < 1 || launch.sequences > kCapacitySequences || launch.row_blocks < 1 ||
      launch.row_blocks > kCapacityRowBlocks || launch.hidden != kHeadHidden) {
    return kErrorLaunch;
  }
HeadCheck_Sequence:
  for (int i = 0; i < launch.sequences; ++i) {
    const LaunchSequence sequence = sequences[i];
    if (sequence.tokens < 1 || sequence.tokens > kCapacityTokens ||
        sequence.row_first + CeilDivide(sequence.tokens, kWordTokens) > launch.row_blocks) {
      return kErrorLaunch;
    }
  }
  return kErrorNone;
}

// Sum of the first `lanes` lanes: padding tokens are not pooled.
int32_t SumLanes(const Word& word, int lanes) {
#pragma HLS INLINE
  int32_t sum = 0;
SumLanes_Lane:
  for (int lane = 0; lane < kWordTokens; ++lane) {
#pragma HLS UNROLL
    sum += lane < lanes ? word.lane[lane] : 0;
  }
  return sum;
}

// A word a cycle. words: of the sequence's first row block.
void SumTokens(const Word* words, int tokens, int32_t sums[kHeadHidden]) {
SumTokens_Block:
  for (int block = 0; block < CeilDivide(tokens, kWordTokens); ++block) {
  SumTokens_Feature:
    for (int feature = 0; feature < kHeadHidden; ++feature) {
#pragma HLS PIPELINE II = 1
      const int32_t sum = SumLanes(words[block * kHeadHidden + feature], tokens - block * kWordTokens);
      sums[feature] = block == 0 ? sum : sums[feature] + sum;
    }
  }
}

// sum / tokens as a share of full scale, 128 steps, to nearest, halves up. An offset keeps the dividend positive.
input_t Mean(int32_t sum, int tokens) {
#pragma HLS INLINE
  const int32_t scale = (2 << kHeadInputFraction) / 128;
  const uint32_t divisor = 2 * tokens;
  const uint32_t offset = divisor << kHeadInputFraction;
  const uint32_t quotient = (uint32_t(sum * scale + tokens) + offset) / divisor;
  const ap_int<input_t::width> steps = int32_t(quotient) - (1 << kHeadInputFraction);
  input_t mean;
  mean.range() = steps.range();
  return mean;
}

void Classify(const int32_t sums[kHeadHidden], int tokens, Beat& logits) {
  input_t pooled[kHeadHidden];
  result_t results[kHeadLabels];
#pragma HLS ARRAY_RESHAPE variable = pooled complete dim = 0
#pragma HLS ARRAY_PARTITION variable = results complete dim = 0
Classify_Feature:
  for (int feature = 0; feature < kHeadHidden; ++feature) {
#pragma HLS PIPELINE II = 1
    pooled[feature] = Mean(sums[feature], tokens);
  }
  bertile_head_network(pooled, results);
Classify_Label:
  for (int label = 0; label < kHeadLabels; ++label) {
#pragma HLS UNROLL
    ap_int<result_t::width> raw;
    raw.range() = results[label].range();
    const uint32_t bits = uint32_t(int32_t(raw));
  Classify_Byte:
    for (int byte = 0; byte < 4; ++byte) {
#pragma HLS UNROLL
      logits.byte[4 * label + byte] = uint8_t(bits >> 8 * byte);
    }
  }
}

// The encoder's status record, and in its last eight bytes the digest of this head's numbers.
void WriteHeadStatus(uint32_t error, Beat* status) {
  Status result = {};
  result.spec_digest = kSpecDigest;
  result.error = error;
  Beat beat = {};
  EncodeStatus(result, beat.byte);
WriteHeadStatus_Byte:
  for (int byte = 0; byte < 8; ++byte) {
#pragma HLS UNROLL
    beat.byte[kPacketBeatBytes - 8 + byte] = uint8_t(kHeadDigest >> 8 * byte);
  }
  status[0] = beat;
}

}  // namespace bertile

void bertile_head(const bertile::Beat* launch, const bertile::Word* words, bertile::Beat* logits,
                  bertile::Beat* status) {
#pragma HLS INTERFACE m_axi port = launch bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = words bundle = gmem1 offset = slave max_read_burst_length = 16
#pragma HLS INTERFACE m_axi port = logits bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = status bundle = gmem0 offset = slave
#pragma HLS INTERFACE s_axilite port = return
  using namespace bertile;
  const Launch header = DecodeLaunch(launch[0].byte);
  const Beat table = launch[1];
  LaunchSequence sequences[kCapacitySequences];
Head_Entry:
  for (int i = 0; i < kCapacitySequences; ++i) {
    sequences[i] = DecodeLaunchSequence(table.byte, i * LaunchSequence::kBytes);
  }
  const uint32_t error = CheckHeadLaunch(header, sequences);
Head_Sequence:
  for (int i = 0; error == kErrorNone && i < header.sequences; ++i) {
    int32_t sums[kHeadHidden];
    const int tokens = sequences[i].tokens < kHeadPooledTokens ? int(sequences[i].tokens) : kHeadPooledTokens;
    Beat result = {};
    SumTokens(words + sequences[i].row_first * kHeadHidden, tokens, sums);
    Classify(sums, tokens, result);
    logits[i] = result;
  }
  WriteHeadStatus(error, status);
}
