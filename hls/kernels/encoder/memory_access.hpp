// Stages that read and write DDR, and those that split and join streams.
#pragma once

#include "commands.hpp"

namespace bertile {

inline void ReadTiles(Stream<ReadRequest>& requests, const Beat* weights, Stream<Beat>& tiles) {
Tiles_Request:
  while (true) {
    const ReadRequest request = requests.read();
    if (request.beats == 0) return;
    BERTILE_MEMORY_REQUEST();
  Tiles_Beat:
    for (uint32_t i = 0; i < request.beats; ++i) {
#pragma HLS PIPELINE II = 1
      BERTILE_MEMORY_TRANSFER(kPacketBeatBytes);
      tiles.write(weights[request.offset + i]);
    }
    BERTILE_DRAIN();
  }
}

inline void ReadParameters(Stream<ParameterRequest>& requests, const Beat* parameters, Stream<Beat>& exponential,
                           Stream<Beat>& activation, Stream<Beat>& norm_accumulate, Stream<Beat>& norm_apply) {
Parameters_Request:
  while (true) {
    const ParameterRequest request = requests.read();
    if (request.read.beats == 0) return;
    BERTILE_MEMORY_REQUEST();
  Parameters_Beat:
    for (uint32_t i = 0; i < request.read.beats; ++i) {
#pragma HLS PIPELINE II = 1
      BERTILE_MEMORY_TRANSFER(kPacketBeatBytes);
      const Beat beat = parameters[request.read.offset + i];
      if (request.target == kForExponential) exponential.write(beat);
      if (request.target == kForActivation) activation.write(beat);
      if (request.target == kForNorm) {
        norm_accumulate.write(beat);
        norm_apply.write(beat);
      }
    }
    BERTILE_DRAIN();
  }
}

// Input words in the order of a region; memory holds them row block by row block.
inline void ReadWords(Stream<NormCommand>& commands, const Word* input, uint16_t hidden, Stream<Word>& words) {
Words_Command:
  while (true) {
    const Region region = commands.read().region;
    if (region.tiles == 0) return;
    RegionCounter at;
    BERTILE_MEMORY_REQUEST();
  Words_Word:
    for (uint32_t i = 0; i < RegionWords(region); ++i) {
#pragma HLS PIPELINE II = 1
      BERTILE_MEMORY_TRANSFER(kWordTokens);
      words.write(input[uint32_t(at.row_block(region)) * hidden + at.column()]);
      at.Next(region);
    }
    BERTILE_DRAIN();
  }
}

inline void WriteWords(Stream<NormCommand>& commands, Stream<Word>& words, uint16_t hidden, Word* output) {
Output_Command:
  while (true) {
    const NormCommand command = commands.read();
    if (command.region.tiles == 0) return;
    RegionCounter at;
  Output_Word:
    for (uint32_t i = 0; i < RegionWords(command.region); ++i) {
#pragma HLS PIPELINE II = 1
      output[command.store_offset + uint32_t(at.row_block(command.region)) * hidden + at.column()] = words.read();
      BERTILE_MEMORY_TRANSFER(kWordTokens);
      at.Next(command.region);
    }
    BERTILE_DRAIN();
    BERTILE_MEMORY_REQUEST();
  }
}

// Each result goes to the stage that waits for it.
inline void RouteResults(Stream<RouteCommand>& commands, Stream<WideWord>& results, Stream<WideWord>& activate,
                         Stream<WideWord>& softmax, Stream<WideWord>& norm, Stream<WideWord>& engine_status) {
Route_Command:
  while (true) {
    const RouteCommand command = commands.read();
    if (command.count == 0) return;
  Route_Word:
    for (uint32_t i = 0; i < command.count; ++i) {
#pragma HLS PIPELINE II = 1
      const WideWord word = results.read();
      if (command.path == kActivatePath) activate.write(word);
      if (command.path == kSoftmaxPath) softmax.write(word);
      if (command.path == kNormPath) norm.write(word);
      if (command.path == kStatusPath) engine_status.write(word);
    }
    BERTILE_DRAIN();
  }
}

// That the launch has begun: of several units that do not end, a host so finds one that never did.
inline Beat BegunStatus() {
#pragma HLS INLINE
  Status begun = {};
  begun.spec_digest = kSpecDigest;
  begun.error = kErrorRunning;
  Beat beat = {};
  EncodeStatus(begun, beat.byte);
  return beat;
}

// That the launch has begun; then what the sequencer says of it and the engine of its part. An error of the launch is
// older than the engine's.
inline void WriteStatus(Stream<Status>& launch_status, Stream<WideWord>& engine_status, Beat* status) {
  status[0] = BegunStatus();
  BERTILE_DRAIN();
  BERTILE_MEMORY_REQUEST();
  Status result = launch_status.read();
  const EngineStatus engine = DecodeEngineStatus(FromResult(engine_status.read()).byte);
  result.engine_error = engine.error;
  result.engine_cycles = engine.cycles;
  if (result.error == kErrorNone && engine.spec_digest != kSpecDigest) result.error = kErrorDigest;
  if (result.error == kErrorNone && engine.error != kEngineErrorNone) result.error = kErrorEngine;
  Beat beat = {};
  EncodeStatus(result, beat.byte);
  status[0] = beat;
  BERTILE_DRAIN();
  BERTILE_MEMORY_REQUEST();
}

// Words return to the engine in the order of the program, which is what await_words counts. Those that the other units
// need go there, too.
inline void MergeWords(Stream<MergeCommand>& commands, Stream<Beat>& activate, Stream<Beat>& softmax,
                       Stream<Beat>& norm, Stream<Beat>& words, Stream<Beat>& words_to_0, Stream<Beat>& words_to_1) {
Merge_Command:
  while (true) {
    const MergeCommand command = commands.read();
    if (command.count == 0) return;
  Merge_Word:
    for (uint32_t i = 0; i < command.count; ++i) {
#pragma HLS PIPELINE II = 1
      Beat beat;
      if (command.path == kActivatePath) beat = activate.read();
      if (command.path == kSoftmaxPath) beat = softmax.read();
      if (command.path == kNormPath) beat = norm.read();
      words.write(beat);
      if (command.share) {
        words_to_0.write(beat);
        words_to_1.write(beat);
      }
    }
    BERTILE_DRAIN();
  }
}

}  // namespace bertile
