// The program sequencer (docs/program.md): descriptors in, commands for the engine and every stage out.
#pragma once

#include "commands.hpp"

namespace bertile {

// The streams the sequencer feeds.
struct SequencerPorts {
  Stream<Beat>& engine;
  Stream<ReadRequest>& tiles;
  Stream<ParameterRequest>& parameters;
  Stream<NormCommand>& loads;
  Stream<RouteCommand>& route;
  Stream<ActivateCommand>& activate;
  Stream<SoftmaxCommand>& softmax_scan;
  Stream<SoftmaxCommand>& softmax_exponentiate;
  Stream<NormCommand>& norm_accumulate;
  Stream<MomentsCommand>& norm_moments;
  Stream<NormCommand>& norm_apply;
  Stream<MergeCommand>& merge;
  Stream<NormCommand>& store;
};

// One query row block of one head: scores issued, context to follow.
struct AttentionStep {
  Descriptor descriptor;
  LaunchSequence sequence;
  uint8_t row;
  uint16_t slot;
  uint32_t await_words;   // its softmax output has arrived
  uint32_t await_values;  // its values have
};

// Where the words of a load or gemm go, and how many words the engine has received when all of them are there.
struct ResultRecord {
  uint16_t target;
  uint16_t target_stride;  // 0: no record
  uint16_t row_first, row_end;
  uint32_t words;
};

static const int kResultRecords = 4;  // queries in two parts, keys, values

class Sequencer {
 public:
  Sequencer(const Launch& launch, const LaunchSequence* sequences, SequencerPorts ports)
      : launch_(launch), sequences_(sequences), ports_(ports) {
    RecordEverywhere(0);
  }

  // A descriptor that Execute knows.
  static bool IsKnown(const Descriptor& descriptor) {
    return descriptor.opcode <= kOpcodeJoin && descriptor.post <= kPostLayernorm;
  }

  void Execute(const Descriptor& descriptor) {
    if (descriptor.opcode != kOpcodeAttention) FlushContexts();
    if (descriptor.opcode == kOpcodeTables) IssueTables(descriptor);
    if (descriptor.opcode == kOpcodeLoad) IssueLoad(descriptor);
    if (descriptor.opcode == kOpcodeGemm) IssueGemm(descriptor);
    if (descriptor.opcode == kOpcodeAttention) IssueAttention(descriptor);
    if (descriptor.opcode == kOpcodeJoin) Join(descriptor);
  }

  // Tell the other units of a cooperative launch whether this one can run it; the answer comes from NormMoments.
  void Agree(uint32_t error) { ports_.norm_moments.write(MomentsCommand{kMomentsAgree, 0, error}); }

  // Let every stage end.
  void Finish() {
    FlushContexts();
    SendEngine(NewCommand(kEngineOpcodeHalt));
    ports_.tiles.write(ReadRequest{0, 0});
    ports_.parameters.write(ParameterRequest{{0, 0}, kForExponential});
    const NormCommand norm_end = {};
    ports_.loads.write(norm_end);
    ports_.route.write(RouteCommand{kStatusPath, 1});
    ports_.route.write(RouteCommand{kActivatePath, 0});
    const ActivateCommand activate_end = {};
    ports_.activate.write(activate_end);
    const SoftmaxCommand softmax_end = {};
    ports_.softmax_scan.write(softmax_end);
    ports_.softmax_exponentiate.write(softmax_end);
    ports_.norm_accumulate.write(norm_end);
    const MomentsCommand moments_end = {};
    ports_.norm_moments.write(moments_end);
    ports_.norm_apply.write(norm_end);
    ports_.merge.write(MergeCommand{kActivatePath, 0, false});
    ports_.store.write(norm_end);
  }

 private:
  // Awaits every word issued so far, unless told otherwise, and those of the others that a join has named.
  Command NewCommand(uint8_t opcode) const {
    Command command = {};
    command.opcode = opcode;
    command.await_words = words_;
    command.await_peer_0 = peer_words_[0];
    command.await_peer_1 = peer_words_[1];
    return command;
  }

  void SendEngine(const Command& command) {
    Beat beat = {};
    EncodeCommand(command, beat.byte);
    ports_.engine.write(beat);
  }

  Region RegionOf(const Descriptor& descriptor) const {
    const int left = int(launch_.row_blocks) - int(descriptor.row_first);
    const int rows = left < int(descriptor.row_count) ? left : int(descriptor.row_count);
    Region region = {descriptor.tiles, descriptor.row_first, uint16_t(rows > 0 ? rows : 0), descriptor.target,
                     descriptor.target_stride};
    return region;
  }

  void RequestParameters(const Descriptor& descriptor, ParameterTarget target) {
    ports_.parameters.write(ParameterRequest{{descriptor.parameter_offset, descriptor.parameter_beats}, target});
  }

  // The header, and the features of this unit.
  void RequestNormParameters(const Descriptor& descriptor) {
    const uint32_t before = descriptor.features_before / (kPacketBeatBytes / LayernormFeature::kBytes);
    const uint32_t first = descriptor.parameter_offset + 1 + before;
    ports_.parameters.write(ParameterRequest{{descriptor.parameter_offset, 1}, kForNorm});
    ports_.parameters.write(ParameterRequest{{first, descriptor.parameter_beats}, kForNorm});
  }

  // Words on their way to the engine, in the order in which MergeWords passes them on.
  void Expect(Path path, uint32_t count, const Descriptor& descriptor) {
    ports_.merge.write(MergeCommand{path, count, IsShared(descriptor)});
    words_ += count;
  }

  static bool IsShared(const Descriptor& descriptor) { return (descriptor.flags >> kFlagShare) & 1; }

  // What the others have shared since the last join: their words come in the order of their programs.
  void Join(const Descriptor& descriptor) {
    const uint32_t words = uint32_t(RegionOf(descriptor).row_count) * kArrayOutputs;
    peer_words_[0] += descriptor.peer_tiles_0 * words;
    peer_words_[1] += descriptor.peer_tiles_1 * words;
  }

  // For the whole row, of which other units may have features in front of this one's.
  void RecordResult(const Region& region, const Descriptor& descriptor) {
    results_[next_result_] = ResultRecord{uint16_t(region.target - descriptor.features_before), region.target_stride,
                                          region.row_first, uint16_t(region.row_first + region.row_count), words_};
    next_result_ = (next_result_ + 1) % kResultRecords;
  }

  // One result for all addresses, until newer ones have taken the place of every record.
  void RecordEverywhere(uint16_t target_stride) {
  Everywhere_Result:
    for (int i = 0; i < kResultRecords; ++i) {
      results_[i] = ResultRecord{0, target_stride, 0, kCapacityRowBlocks, words_};
    }
  }

  // Words received when these row blocks of what lies at `address`, in row block 0 of its region, have arrived: those
  // up to the newest result there, or all when none is on record. A result takes all earlier ones with it.
  uint32_t Arrival(uint16_t address, int row_first = 0, int row_end = kCapacityRowBlocks) const {
    uint32_t words = 0;
  Arrival_Result:
    for (int i = 0; i < kResultRecords; ++i) {
      const ResultRecord& result = results_[i];
      const bool holds = address >= result.target && address - result.target < result.target_stride &&
                         result.row_first < row_end && row_first < result.row_end;
      if (holds && result.words > words) words = result.words;
    }
    if (words == 0) words = words_;
    return words > norm_words_ ? words : norm_words_;
  }

  void IssueTables(const Descriptor& descriptor) {
    RequestParameters(descriptor, kForExponential);
    SoftmaxCommand command = {};
    command.kind = kSoftmaxTable;
    ports_.softmax_exponentiate.write(command);
  }

  void IssueLoad(const Descriptor& descriptor) {
    const NormCommand command = {RegionOf(descriptor), true, true, false, 0};
    if (command.region.row_count == 0) return;
    ports_.loads.write(command);
    ports_.norm_apply.write(command);
    ExpectNorm(command.region, descriptor);
  }

  void IssueGemm(const Descriptor& descriptor) {
    const Region region = RegionOf(descriptor);
    if (region.row_count == 0) return;
    ports_.tiles.write(ReadRequest{descriptor.tile_offset, descriptor.tile_beats});
    SendGemm(descriptor, region);
    const uint32_t count = RegionWords(region);
    if (descriptor.post == kPostLayernorm) {
      RequestNormParameters(descriptor);
      ports_.route.write(RouteCommand{kNormPath, count});
      SendNorm(descriptor, region);
      ExpectNorm(region, descriptor);
    } else {
      const bool look_up = descriptor.post == kPostActivation;
      if (look_up) RequestParameters(descriptor, kForActivation);
      ports_.route.write(RouteCommand{kActivatePath, count});
      ports_.activate.write(ActivateCommand{region, look_up});
      Expect(kActivatePath, count, descriptor);
      RecordResult(region, descriptor);
    }
  }

  void ExpectNorm(const Region& region, const Descriptor& descriptor) {
    Expect(kNormPath, RegionWords(region), descriptor);
    RecordResult(region, descriptor);
    if (RegionWords(region) > kUnawaitedWords) norm_words_ = words_;
  }

  void SendGemm(const Descriptor& descriptor, const Region& region) {
    const int bits = descriptor.post == kPostNone ? 8 : descriptor.post == kPostActivation ? kLawGeluIndexBits : 16;
    Command command = NewCommand(kEngineOpcodeGemm);
    command.flags = descriptor.flags & (1 << kFlagUnsignedSource);
    command.await_words = Arrival(descriptor.source, region.row_first, region.row_first + region.row_count);
    command.row_first = uint8_t(region.row_first);
    command.row_count = uint8_t(region.row_count);
    command.source = descriptor.source;
    command.source_stride = descriptor.source_stride;
    command.tiles = descriptor.tiles;
    SetLimits(command, bits);
    SendEngine(command);
  }

  void SendNorm(const Descriptor& descriptor, const Region& region) {
    const bool is_traced = (launch_.flags >> kLaunchFlagTrace) & (descriptor.flags >> kFlagTrace) & 1;
    const uint32_t slot_words = uint32_t(launch_.row_blocks) * launch_.hidden;
    const bool is_result = (descriptor.flags >> kFlagStore) & 1;
    const NormCommand command = {region, false, !is_result, is_traced || is_result,
                                 is_traced ? descriptor.trace_slot * slot_words : 0};
    const bool together = (launch_.flags >> kLaunchFlagCooperative) & 1;
    ports_.norm_accumulate.write(command);
    ports_.norm_moments.write(MomentsCommand{together ? kMomentsTogether : kMomentsAlone, region.row_count, 0});
    ports_.norm_apply.write(command);
    if (command.store) ports_.store.write(command);
  }

  // Contexts follow their scores two steps behind, so that softmax runs behind the array.
  void IssueAttention(const Descriptor& descriptor) {
  Attention_Sequence:
    for (int s = 0; s < launch_.sequences; ++s) {
      const LaunchSequence sequence = sequences_[s];
    Attention_Row:
      for (int row = 0; row < CeilDivide(sequence.tokens, kWordTokens); ++row) {
        if (pending_ == kCapacityProbabilitySlots) IssueContext();
        IssueScores(descriptor, sequence, row);
      }
    }
  }

  void IssueScores(const Descriptor& descriptor, const LaunchSequence& sequence, int row) {
    AttentionStep step = {descriptor, sequence, uint8_t(row), next_slot_, 0, Arrival(descriptor.value)};
    next_slot_ = uint16_t((next_slot_ + 1) % kCapacityProbabilitySlots);
    const int tiles = CeilDivide(sequence.tokens, kArrayOutputs);
    Command command = AttentionCommand(step, kEngineOpcodeScores);
    const uint32_t queries = Arrival(descriptor.source);
    command.await_weight = Arrival(descriptor.key);
    command.await_words = queries > command.await_weight ? queries : command.await_weight;
    command.row_first = uint8_t(sequence.row_first + row);
    command.source = descriptor.source;
    command.source_stride = descriptor.source_stride;
    command.weight = uint16_t(descriptor.key + sequence.row_first * descriptor.source_stride);
    command.tiles = uint16_t(tiles);
    command.multiplier = descriptor.score_multiplier;
    command.shift = descriptor.score_shift;
    SetLimits(command, 16);
    SendEngine(command);
    ports_.route.write(RouteCommand{kSoftmaxPath, uint32_t(tiles * kArrayOutputs)});
    const SoftmaxCommand softmax = {kSoftmaxRow, sequence.tokens, SlotAddress(step), step.slot,
                                    descriptor.context_numerator};
    ports_.softmax_scan.write(softmax);
    ports_.softmax_exponentiate.write(softmax);
    Expect(kSoftmaxPath, uint32_t(tiles * kArrayOutputs + 2), Descriptor());
    step.await_words = words_;
    steps_[(first_pending_ + pending_) % kCapacityProbabilitySlots] = step;
    ++pending_;
  }

  void IssueContext() {
    const AttentionStep step = steps_[first_pending_];
    first_pending_ = (first_pending_ + 1) % kCapacityProbabilitySlots;
    --pending_;
    const Descriptor& descriptor = step.descriptor;
    Command command = AttentionCommand(step, kEngineOpcodeContext);
    command.flags |= 1 << kFlagUnsignedSource;
    command.await_words = step.await_words;
    command.await_weight = step.await_values;
    command.source = SlotAddress(step);
    command.weight = uint16_t(descriptor.value + step.sequence.row_first * descriptor.source_stride);
    command.tiles = uint16_t(descriptor.head_size / kArrayOutputs);
    command.shift = descriptor.context_shift;
    command.row_scale_slot = step.slot;
    SetLimits(command, 8);
    SendEngine(command);
    const Region region = {command.tiles, uint16_t(step.sequence.row_first + step.row), 1, descriptor.target,
                           descriptor.target_stride};
    ports_.route.write(RouteCommand{kActivatePath, RegionWords(region)});
    ports_.activate.write(ActivateCommand{region, false});
    Expect(kActivatePath, RegionWords(region), descriptor);
  }

  // The contexts of all heads are awaited together, with all that came before.
  void FlushContexts() {
    if (pending_ == 0) return;
    while (pending_ > 0) IssueContext();
    RecordEverywhere(UINT16_MAX);
  }

  Command AttentionCommand(const AttentionStep& step, uint8_t opcode) const {
    Command command = NewCommand(opcode);
    command.flags = step.row == 0 ? 1 << kFlagReload : 0;
    command.row_count = 1;
    command.weight_stride = step.descriptor.source_stride;
    command.keys = step.sequence.tokens;
    command.head_size = step.descriptor.head_size;
    return command;
  }

  static uint16_t SlotAddress(const AttentionStep& step) {
    return uint16_t(step.descriptor.probability + step.slot * kCapacityTokens);
  }

  static void SetLimits(Command& command, int bits) {
    command.limit_low = int16_t(-(1 << (bits - 1)));
    command.limit_high = int16_t((1 << (bits - 1)) - 1);
  }

  const Launch launch_;
  const LaunchSequence* sequences_;
  SequencerPorts ports_;
  uint32_t words_ = 0;       // sent to the engine when everything issued so far is done
  uint32_t norm_words_ = 0;  // the same after the last load or LayerNorm of more than kUnawaitedWords
  uint32_t peer_words_[kCooperationUnits - 1] = {};  // received from the others when everything joined is there
  ResultRecord results_[kResultRecords];
  int next_result_ = 0;
  AttentionStep steps_[kCapacityProbabilitySlots];
  int first_pending_ = 0;
  int pending_ = 0;
  uint16_t next_slot_ = 0;
};

}  // namespace bertile
