// Stages that read and write DDR, and those that split and join streams.
#pragma once

#include "commands.hpp"

namespace bertile {

inline void ReadTiles(Stream<ReadRequest>& requests, const Beat* weights, Stream<Beat>& tiles) {
Tiles_Request:
  while (true) {
    const ReadRequest request = requests.read();
    if (request.beats == 0) return;
  Tiles_Beat:
    for (uint32_t i = 0; i < request.beats; ++i) {
#pragma HLS PIPELINE II = 1
      tiles.write(weights[request.offset + i]);
    }
  }
}

inline void ReadParameters(Stream<ParameterRequest>& requests, const Beat* parameters, Stream<Beat>& exponential,
                           Stream<Beat>& activation, Stream<Beat>& norm_accumulate, Stream<Beat>& norm_apply) {
Parameters_Request:
  while (true) {
    const ParameterRequest request = requests.read();
    if (request.read.beats == 0) return;
  Parameters_Beat:
    for (uint32_t i = 0; i < request.read.beats; ++i) {
#pragma HLS PIPELINE II = 1
      const Beat beat = parameters[request.read.offset + i];
      if (request.target == kForExponential) exponential.write(beat);
      if (request.target == kForActivation) activation.write(beat);
      if (request.target == kForNorm) {
        norm_accumulate.write(beat);
        norm_apply.write(beat);
      }
    }
  }
}

// Input words in the order of a region; memory holds them row block by row block.
inline void ReadWords(Stream<NormCommand>& commands, const Word* input, uint16_t hidden, Stream<Word>& words) {
Words_Command:
  while (true) {
    const Region region = commands.read().region;
    if (region.tiles == 0) return;
    RegionCounter at;
  Words_Word:
    for (uint32_t i = 0; i < RegionWords(region); ++i) {
#pragma HLS PIPELINE II = 1
      words.write(input[uint32_t(at.row_block(region)) * hidden + at.column()]);
      at.Next(region);
    }
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
      at.Next(command.region);
    }
  }
}

// Each result goes to the stage that waits for it.
inline void RouteResults(Stream<RouteCommand>& commands, Stream<WideWord>& results, Stream<WideWord>& activate,
                         Stream<WideWord>& softmax, Stream<WideWord>& norm) {
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
    }
  }
}

// Words return to the engine in the order of the program, which is what await_words counts.
inline void MergeWords(Stream<RouteCommand>& commands, Stream<Beat>& activate, Stream<Beat>& softmax,
                       Stream<Beat>& norm, Stream<Beat>& words) {
Merge_Command:
  while (true) {
    const RouteCommand command = commands.read();
    if (command.count == 0) return;
  Merge_Word:
    for (uint32_t i = 0; i < command.count; ++i) {
#pragma HLS PIPELINE II = 1
      Beat beat;
      if (command.path == kActivatePath) beat = activate.read();
      if (command.path == kSoftmaxPath) beat = softmax.read();
      if (command.path == kNormPath) beat = norm.read();
      words.write(beat);
    }
  }
}

}  // namespace bertile
