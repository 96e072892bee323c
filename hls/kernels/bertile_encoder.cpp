// The kernel of one compute unit that the host starts: it runs a program on the engine and the vector stages
// (docs/architecture.md, The encoder kernel).
#include "bertile_encoder.hpp"

#include "encoder/activate.hpp"
#include "encoder/layernorm.hpp"
#include "encoder/memory_access.hpp"
#include "encoder/moments.hpp"
#include "encoder/sequencer.hpp"
#include "encoder/softmax.hpp"

namespace bertile {

// The launch table may come from a host built for another spec, or be broken.
uint32_t CheckLaunch(const Launch& launch, const LaunchSequence* sequences) {
  if (launch.magic != uint32_t(kContractProgramMagic) || launch.spec_digest != kSpecDigest) return kErrorDigest;
  if (launch.sequences < 1 || launch.sequences > kCapacitySequences || launch.row_blocks < 1 ||
      launch.row_blocks > kCapacityRowBlocks || launch.hidden > kCapacityHidden) {
    return kErrorLaunch;
  }
  int row = 0;
Check_Sequence:
  for (int i = 0; i < launch.sequences; ++i) {
    if (sequences[i].tokens < 1 || sequences[i].tokens > kCapacityTokens || sequences[i].row_first != row) {
      return kErrorLaunch;
    }
    row += CeilDivide(sequences[i].tokens, kWordTokens);
  }
  return row == launch.row_blocks ? kErrorNone : kErrorLaunch;
}

// All of a program before any of it: a launch that broke off would leave words in the residual FIFO for the next one.
uint32_t CheckProgram(const Beat* program) {
  BERTILE_MEMORY_REQUEST();
Check_Descriptor:
  for (uint32_t i = 0;; ++i) {
#pragma HLS PIPELINE
    BERTILE_MEMORY_TRANSFER(kPacketBeatBytes);
    const Descriptor descriptor = DecodeDescriptor(program[i].byte);
    if (!Sequencer::IsKnown(descriptor)) return kErrorOpcode;
    if (descriptor.opcode == kOpcodeEnd) return kErrorNone;
  }
}

void Sequence(const Beat* program, const Launch& launch, const LaunchSequence* sequences, Stream<Status>& status,
              Stream<Beat>& engine, Stream<ReadRequest>& tiles, Stream<ParameterRequest>& parameters,
              Stream<NormCommand>& loads, Stream<RouteCommand>& route, Stream<ActivateCommand>& activate,
              Stream<SoftmaxCommand>& scan, Stream<SoftmaxCommand>& exponentiate, Stream<NormCommand>& accumulate,
              Stream<MomentsCommand>& moments, Stream<NormCommand>& apply, Stream<MergeCommand>& merge,
              Stream<NormCommand>& store, Stream<uint32_t>& agreed) {
  const SequencerPorts ports = {engine,       tiles,      parameters, loads, route, activate, scan,
                                exponentiate, accumulate, moments,    apply, merge, store};
  Sequencer sequencer(launch, sequences, ports);
  Status result = {};
  result.spec_digest = kSpecDigest;
  result.error = CheckLaunch(launch, sequences);
  if (result.error == kErrorNone) result.error = CheckProgram(program + launch.program_offset);
  // A unit that cannot run would leave the others waiting for its words.
  if ((launch.flags >> kLaunchFlagCooperative) & 1) {
    sequencer.Agree(result.error);
    result.error = agreed.read();
  }
Sequence_Descriptor:
  while (result.error == kErrorNone) {
    BERTILE_MEMORY_REQUEST();
    BERTILE_MEMORY_TRANSFER(kPacketBeatBytes);
    const Descriptor descriptor = DecodeDescriptor(program[launch.program_offset + result.descriptors].byte);
    if (descriptor.opcode == kOpcodeEnd) break;
    sequencer.Execute(descriptor);
    ++result.descriptors;
  }
  sequencer.Finish();
  status.write(result);
}

// The block diagram: every stage a process, every arrow a stream.
void RunStages(const Beat* program, const Beat* weights, const Beat* parameters, const Launch& launch,
               const LaunchSequence* sequences, const Word* input, Word* output, Beat* status,
               Stream<Beat>& engine_commands, Stream<Beat>& engine_tiles, Stream<Beat>& engine_words,
               Stream<WideWord>& engine_results, Stream<Beat>& words_to_0, Stream<Beat>& words_to_1,
               Stream<Beat>& moments_to_0, Stream<Beat>& moments_to_1, Stream<Beat>& moments_from_0,
               Stream<Beat>& moments_from_1) {
#pragma HLS DATAFLOW
  Stream<ReadRequest, kCommandDepth> tile_requests("tile_requests");
  Stream<ParameterRequest, kCommandDepth> parameter_requests("parameter_requests");
  Stream<NormCommand, kCommandDepth> load_commands("load_commands");
  Stream<RouteCommand, kCommandDepth> route_commands("route_commands");
  Stream<ActivateCommand, kCommandDepth> activate_commands("activate_commands");
  Stream<SoftmaxCommand, kCommandDepth> scan_commands("scan_commands");
  Stream<SoftmaxCommand, kCommandDepth> exponentiate_commands("exponentiate_commands");
  Stream<NormCommand, kCommandDepth> accumulate_commands("accumulate_commands");
  Stream<MomentsCommand, kCommandDepth> moments_commands("moments_commands");
  Stream<NormCommand, kCommandDepth> apply_commands("apply_commands");
  Stream<MergeCommand, kCommandDepth> merge_commands("merge_commands");
  Stream<NormCommand, kCommandDepth> store_commands("store_commands");
  Stream<Status, 2> launch_status("launch_status");
  Stream<WideWord, 2> engine_status("engine_status");
  Stream<Beat, kWordDepth> exponential_table("exponential_table");
  Stream<Beat, kWordDepth> activation_table("activation_table");
  Stream<Beat, kWordDepth> accumulate_parameters("accumulate_parameters");
  // The second pass takes its parameters only when the first has ended.
  Stream<Beat, kNormParameterDepth> apply_parameters("apply_parameters");
  Stream<Word, kWordDepth> loaded_words("loaded_words");
  Stream<Word, kWordDepth> stored_words("stored_words");
  Stream<WideWord, kWordDepth> to_activate("to_activate");
  Stream<WideWord, kWordDepth> to_softmax("to_softmax");
  Stream<WideWord, kWordDepth> to_norm("to_norm");
  Stream<WideWord, kScoreDepth> scores("scores");
  Stream<WideWord, 2> maxima("maxima");
  Stream<WideWord, kSumDepth> sums("sums");
  Stream<PartialMoments, kCapacityRowBlocks> partials("partials");
  Stream<uint32_t, 2> agreed("agreed");
  Stream<RowMoments, kCapacityRowBlocks> moments("moments");
  Stream<Word, kResidualDepth> residuals("residuals");
  Stream<Beat, kActivatedDepth> activated("activated");
  Stream<Beat, kWordDepth> probabilities("probabilities");
  Stream<Beat, kWordDepth> normalized("normalized");
// Block RAM is short in the region with two encoders (docs/area.md).
#pragma HLS BIND_STORAGE variable = exponential_table type = fifo impl = lutram
#pragma HLS BIND_STORAGE variable = activation_table type = fifo impl = lutram
#pragma HLS BIND_STORAGE variable = accumulate_parameters type = fifo impl = lutram
#pragma HLS BIND_STORAGE variable = to_softmax type = fifo impl = lutram
#pragma HLS BIND_STORAGE variable = to_norm type = fifo impl = lutram
#pragma HLS BIND_STORAGE variable = sums type = fifo impl = uram
#pragma HLS BIND_STORAGE variable = residuals type = fifo impl = uram

  BERTILE_DATAFLOW_BEGIN();
  BERTILE_STAGE(Sequence, program, launch, sequences, launch_status, engine_commands, tile_requests,
                parameter_requests, load_commands, route_commands, activate_commands, scan_commands,
                exponentiate_commands, accumulate_commands, moments_commands, apply_commands, merge_commands,
                store_commands, agreed);
  BERTILE_STAGE(ReadTiles, tile_requests, weights, engine_tiles);
  BERTILE_STAGE(ReadParameters, parameter_requests, parameters, exponential_table, activation_table,
                accumulate_parameters, apply_parameters);
  BERTILE_STAGE(ReadWords, load_commands, input, launch.hidden, loaded_words);
  BERTILE_STAGE(RouteResults, route_commands, engine_results, to_activate, to_softmax, to_norm, engine_status);
  BERTILE_STAGE(Activate, activate_commands, to_activate, activation_table, activated);
  BERTILE_STAGE(SoftmaxScan, scan_commands, to_softmax, scores, maxima);
  BERTILE_STAGE(SoftmaxExponentiate, exponentiate_commands, scores, maxima, exponential_table, probabilities);
  BERTILE_STAGE(NormAccumulate, accumulate_commands, to_norm, accumulate_parameters, residuals, sums, partials);
  BERTILE_STAGE(NormMoments, moments_commands, partials, moments_to_0, moments_to_1, moments_from_0, moments_from_1,
                agreed, moments);
  BERTILE_STAGE(NormApply, apply_commands, sums, moments, apply_parameters, loaded_words, residuals, stored_words,
                normalized);
  BERTILE_STAGE(MergeWords, merge_commands, activated, probabilities, normalized, engine_words, words_to_0,
                words_to_1);
  BERTILE_STAGE(WriteWords, store_commands, stored_words, launch.hidden, output);
  BERTILE_STAGE(WriteStatus, launch_status, engine_status, status);
  BERTILE_DATAFLOW_END();
}

}  // namespace bertile

void bertile_encoder(const bertile::Beat* program, const bertile::Beat* weights, const bertile::Beat* parameters,
                     const bertile::Beat* launch, const bertile::Word* input_words, bertile::Word* output_words,
                     bertile::Beat* status, bertile::Stream<bertile::Beat>& engine_commands,
                     bertile::Stream<bertile::Beat>& engine_tiles, bertile::Stream<bertile::Beat>& engine_words,
                     bertile::Stream<bertile::WideWord>& engine_results,
                     bertile::Stream<bertile::Beat>& words_to_0, bertile::Stream<bertile::Beat>& words_to_1,
                     bertile::Stream<bertile::Beat>& moments_to_0, bertile::Stream<bertile::Beat>& moments_to_1,
                     bertile::Stream<bertile::Beat>& moments_from_0, bertile::Stream<bertile::Beat>& moments_from_1) {
// One bundle a stage: stages of a dataflow region do not share a memory port in the same direction.
#pragma HLS INTERFACE m_axi port = program bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = weights bundle = gmem1 offset = slave max_read_burst_length = 64
#pragma HLS INTERFACE m_axi port = parameters bundle = gmem2 offset = slave
#pragma HLS INTERFACE m_axi port = launch bundle = gmem0 offset = slave
#pragma HLS INTERFACE m_axi port = input_words bundle = gmem3 offset = slave max_read_burst_length = 16
#pragma HLS INTERFACE m_axi port = output_words bundle = gmem3 offset = slave max_write_burst_length = 16
#pragma HLS INTERFACE m_axi port = status bundle = gmem0 offset = slave
#pragma HLS INTERFACE axis port = engine_commands
#pragma HLS INTERFACE axis port = engine_tiles
#pragma HLS INTERFACE axis port = engine_words
#pragma HLS INTERFACE axis port = engine_results
#pragma HLS INTERFACE axis port = words_to_0
#pragma HLS INTERFACE axis port = words_to_1
#pragma HLS INTERFACE axis port = moments_to_0
#pragma HLS INTERFACE axis port = moments_to_1
#pragma HLS INTERFACE axis port = moments_from_0
#pragma HLS INTERFACE axis port = moments_from_1
#pragma HLS INTERFACE s_axilite port = return
  using namespace bertile;
  BERTILE_MEMORY_REQUEST();
  BERTILE_MEMORY_TRANSFER((1 + kCapacitySequences * LaunchSequence::kBytes / kPacketBeatBytes) * kPacketBeatBytes);
  const Launch header = DecodeLaunch(launch[0].byte);
  LaunchSequence sequences[kCapacitySequences];
  const Beat table = launch[1];
Launch_Sequence:
  for (int i = 0; i < kCapacitySequences; ++i) {
    sequences[i] = DecodeLaunchSequence(table.byte, i * LaunchSequence::kBytes);
  }
  RunStages(program, weights, parameters, header, sequences, input_words, output_words, status, engine_commands,
            engine_tiles, engine_words, engine_results, words_to_0, words_to_1, moments_to_0, moments_to_1,
            moments_from_0, moments_from_1);
}
