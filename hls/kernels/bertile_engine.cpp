// The block-sparse GEMM engine of one compute unit (docs/architecture.md, The engine).
#include "bertile_engine.hpp"

#include "engine/command_checks.hpp"
#include "engine/mac_array.hpp"
#include "engine/requantizer.hpp"
#include "engine/tile_loader.hpp"

namespace bertile {

typedef Stream<Beat> BeatStream;
typedef Stream<WideWord> ResultStream;

// Words come from the encoder of this unit, and from those of the two others.
struct WordPorts {
  BeatStream& own;
  BeatStream& from_0;
  BeatStream& from_1;
};

// What is there of each stream, a word at most. Nobody may be kept waiting: two engines that each took only the words
// it needs next would wait for each other.
bool TakeWords(WordPorts words, EngineMemory& memory) {
#pragma HLS INLINE
  Beat beat;
  bool took = false;
  if (words.own.read_nb(beat)) {
    StoreWord(beat, true, memory);
    ++memory.received;
    took = true;
  }
  if (words.from_0.read_nb(beat)) {
    StoreWord(beat, false, memory);
    ++memory.received_from[0];
    took = true;
  }
  if (words.from_1.read_nb(beat)) {
    StoreWord(beat, false, memory);
    ++memory.received_from[1];
    took = true;
  }
  return took;
}

// Until so many words of this unit have arrived, and every word of the others that a command needs.
void AwaitWords(uint32_t count, const Command& command, WordPorts words, EngineMemory& memory) {
  bool lacks, lacks_0, lacks_1;
Await_Word:
  do {
#pragma HLS PIPELINE II = 1
    lacks = memory.received < count;
    lacks_0 = memory.received_from[0] < command.await_peer_0;
    lacks_1 = memory.received_from[1] < command.await_peer_1;
    if (!(lacks || lacks_0 || lacks_1) || TakeWords(words, memory)) continue;
    AwaitFirst(lacks ? words.own : lacks_0 ? words.from_0 : words.from_1, words.own, words.from_0, words.from_1);
  } while (lacks || lacks_0 || lacks_1);
}

Command NextCommand(BeatStream& commands, WordPorts words, EngineMemory& memory) {
  Beat beat;
Next_Word:
  while (!commands.read_nb(beat)) {
#pragma HLS PIPELINE II = 1
    if (!TakeWords(words, memory)) AwaitFirst(commands, words.own, words.from_0, words.from_1);
  }
  return DecodeCommand(beat.byte);
}

void TakeTileBeat(const Beat& beat, TileLoader& loader, TileBuffer& tile, EngineMemory& memory) {
#pragma HLS INLINE
  loader.Accept(beat, tile);
  if (loader.malformed()) Report(kEngineErrorPacket, memory);
}

// Where the four activation words of a cycle are.
void FindOperands(const Command& command, uint16_t base, const TileBuffer& tile, int group, int cycle,
                  EngineMemory& memory, uint16_t address[kArrayInputs]) {
#pragma HLS INLINE
  const bool gathers = command.opcode == kEngineOpcodeGemm;
Operand_Address:
  for (int i = 0; i < kArrayInputs; ++i) {
#pragma HLS UNROLL
    const uint16_t input = gathers ? tile.index[group][i] : uint16_t(cycle * kArrayInputs + i);
    if (gathers && input >= command.source_stride) Report(kEngineErrorIndex, memory);
    address[i] = OperandAddress(uint16_t(base + input), memory);
  }
}

// One tile over one row block. An iteration is a clock cycle: a word arrives, a beat of the next tile arrives, four
// vectors are multiplied, one result of the previous pass leaves.
void RunPass(const Command& command, uint16_t base, const TileBuffer& tile, int first_group, int groups,
             EngineMemory& memory, Drain& drain, TileLoader& loader, TileBuffer& next_tile, BeatStream& tiles,
             WordPorts words, ResultStream& results) {
  const bool is_unsigned = (command.flags >> kFlagUnsignedSource) & 1;
  const int cycles = groups > kArrayOutputs ? groups : kArrayOutputs;
  Accumulators accumulators = {};
#pragma HLS ARRAY_PARTITION variable = accumulators.value complete dim = 0
Pass_Cycle:
  for (int cycle = 0; cycle < cycles; ++cycle) {
#pragma HLS PIPELINE II = 1
#pragma HLS DEPENDENCE variable = memory.activation type = inter direction = RAW false
    Beat beat;
    TakeWords(words, memory);
    if (!loader.done() && tiles.read_nb(beat)) TakeTileBeat(beat, loader, next_tile, memory);
    if (cycle < groups) {
      const int group = first_group + cycle;
      uint16_t address[kArrayInputs];
      FindOperands(command, base, tile, group, cycle, memory, address);
      MacCycle(ReadOperand(memory, address, is_unsigned), tile.weight[group], accumulators);
    }
    if (cycle < drain.words) results.write(Requantize(drain, cycle, command, memory));
  }
  drain.accumulators = accumulators;
  drain.words = kArrayOutputs;
Pass_Parameter:
  for (int feature = 0; feature < kArrayOutputs; ++feature) {
#pragma HLS UNROLL
    drain.parameter[feature] = tile.parameter[feature];
  }
}

// Send the last pass of a command.
void FinishDrain(const Command& command, EngineMemory& memory, Drain& drain, WordPorts words,
                 ResultStream& results) {
Drain_Word:
  for (int feature = 0; feature < drain.words; ++feature) {
#pragma HLS PIPELINE II = 1
    TakeWords(words, memory);
    results.write(Requantize(drain, feature, command, memory));
  }
  drain.words = 0;
}

void FinishTile(TileLoader& loader, TileBuffer& tile, BeatStream& tiles, EngineMemory& memory) {
Load_Beat:
  while (!loader.done()) {
#pragma HLS PIPELINE II = 1
    TakeTileBeat(tiles.read(), loader, tile, memory);
  }
}

// Weight GEMM: each tile is loaded once and replayed for every row block, the next one loading behind it.
void RunGemm(const Command& command, bool is_blank, EngineMemory& memory, BeatStream& tiles, WordPorts words,
             ResultStream& results) {
  AwaitWords(command.await_words, command, words, memory);
  TileLoader loader;
  Drain drain;
  drain.words = 0;
  loader.Start();
  FinishTile(loader, memory.tile[0], tiles, memory);
Gemm_Tile:
  for (int number = 0; number < command.tiles; ++number) {
    TileBuffer& tile = memory.tile[number & 1];
    TileBuffer& next_tile = memory.tile[(number + 1) & 1];
    if (number + 1 < command.tiles) loader.Start();
  Gemm_RowBlock:
    for (int row = command.row_first; row < command.row_first + command.row_count; ++row) {
      const uint16_t base = uint16_t(command.source + row * command.source_stride);
      RunPass(command, base, tile, 0, is_blank ? 0 : tile.groups, memory, drain, loader, next_tile, tiles, words,
              results);
    }
    FinishTile(loader, next_tile, tiles, memory);
  }
  FinishDrain(command, memory, drain, words, results);
}

// Keys become weights as they are: half a word is the 16 weights of one head feature.
void LoadKeys(const Command& command, EngineMemory& memory) {
  const int groups = command.head_size / kArrayInputs;
Keys_Tile:
  for (int tile = 0; tile < command.tiles; ++tile) {
    const uint16_t base = uint16_t(command.weight + tile / 2 * command.weight_stride);
    const int half = (tile & 1) * kArrayOutputs;
  Keys_Feature:
    for (int feature = 0; feature < command.head_size; ++feature) {
#pragma HLS PIPELINE II = 1
      const Word word = memory.activation[0][OperandAddress(uint16_t(base + feature), memory)];
      Beat& beat = memory.tile[kKeyHalf].weight[tile * groups + feature / kArrayInputs];
    Keys_Lane:
      for (int lane = 0; lane < kArrayOutputs; ++lane) {
#pragma HLS UNROLL
        beat.byte[feature % kArrayInputs * kArrayOutputs + lane] = uint8_t(word.lane[half + lane]);
      }
    }
  }
}

// Values are transposed: the weights of a key are 16 features of one token.
void LoadValues(const Command& command, EngineMemory& memory) {
  const int groups = CeilDivide(command.keys, kArrayInputs);
  const int groups_per_word = kWordTokens / kArrayInputs;
Values_Tile:
  for (int tile = 0; tile < command.tiles; ++tile) {
  Values_RowBlock:
    for (int row = 0; row < CeilDivide(command.keys, kWordTokens); ++row) {
      const uint16_t base = uint16_t(command.weight + row * command.weight_stride + tile * kArrayOutputs);
      Word words[kArrayOutputs];
#pragma HLS ARRAY_PARTITION variable = words complete dim = 0
    Values_Feature:
      for (int feature = 0; feature < kArrayOutputs; ++feature) {
#pragma HLS PIPELINE II = 1
        words[feature] = memory.activation[0][OperandAddress(uint16_t(base + feature), memory)];
      }
    Values_Group:
      for (int group = 0; group < groups_per_word; ++group) {
#pragma HLS PIPELINE II = 1
        const int position = row * groups_per_word + group;
        if (position >= groups) break;
        Beat beat;
      Values_Byte:
        for (int byte = 0; byte < kPacketBeatBytes; ++byte) {
#pragma HLS UNROLL
          beat.byte[byte] = uint8_t(words[byte % kArrayOutputs].lane[group * kArrayInputs + byte / kArrayOutputs]);
        }
        memory.tile[kValueHalf].weight[tile * groups + position] = beat;
      }
    }
  }
}

// Scores (queries x keys) or context (probabilities x values) of one head and the row blocks of a command.
void RunAttention(const Command& command, bool is_blank, EngineMemory& memory, BeatStream& tiles, WordPorts words,
                  ResultStream& results) {
  const bool is_scores = command.opcode == kEngineOpcodeScores;
  const int inputs = is_scores ? int(command.head_size) : int(command.keys);
  const int groups = is_blank ? 0 : CeilDivide(inputs, kArrayInputs);
  const TileBuffer& operand = memory.tile[is_scores ? kKeyHalf : kValueHalf];
  if (((command.flags >> kFlagReload) & 1) && !is_blank) {
    const Command no_peers = {};  // keys and values are this unit's own
    // Before await_words: the late words of a simulation so show an await_weight that is too low.
    AwaitWords(command.await_weight, no_peers, words, memory);
    if (is_scores) {
      LoadKeys(command, memory);
    } else {
      LoadValues(command, memory);
    }
  }
  AwaitWords(command.await_words, command, words, memory);
  TileLoader no_tile;
  Drain drain;
  drain.words = 0;
Attention_RowBlock:
  for (int row = command.row_first; row < command.row_first + command.row_count; ++row) {
    const uint16_t base = uint16_t(command.source + row * command.source_stride);
  Attention_Tile:
    for (int number = 0; number < command.tiles; ++number) {
      RunPass(command, base, operand, number * groups, groups, memory, drain, no_tile, memory.tile[0], tiles, words,
              results);
    }
  }
  FinishDrain(command, memory, drain, words, results);
}

// A command of the launch. Whatever is wrong with it, it takes and sends what the encoder expects of its counts.
void Execute(const Command& command, EngineMemory& memory, BeatStream& tiles, WordPorts words,
             ResultStream& results) {
  if (!IsOperation(command)) {
    Report(kEngineErrorOpcode, memory);
    return;
  }
  const bool is_blank = !HasShape(command);
  if (is_blank || IsEmpty(command)) Report(kEngineErrorShape, memory);
  if (IsEmpty(command)) return;
  if (command.opcode == kEngineOpcodeGemm) {
    RunGemm(command, is_blank, memory, tiles, words, results);
  } else {
    RunAttention(command, is_blank, memory, tiles, words, results);
  }
}

// The answer to halt. C-simulation has no clock: it counts no cycles.
WideWord StatusResult(const EngineMemory& memory) {
  EngineStatus status = {};
  status.spec_digest = kSpecDigest;
  status.error = memory.error;
  Beat beat = {};
  EncodeEngineStatus(status, beat.byte);
  return ToResult(beat);
}

}  // namespace bertile

void bertile_engine(bertile::Stream<bertile::Beat>& commands, bertile::Stream<bertile::Beat>& tiles,
                    bertile::Stream<bertile::Beat>& words, bertile::Stream<bertile::Beat>& words_from_0,
                    bertile::Stream<bertile::Beat>& words_from_1, bertile::Stream<bertile::WideWord>& results) {
#pragma HLS INTERFACE axis port = commands register_mode = both register
#pragma HLS INTERFACE axis port = tiles register_mode = both register
#pragma HLS INTERFACE axis port = words register_mode = both register
#pragma HLS INTERFACE axis port = words_from_0 register_mode = both register
#pragma HLS INTERFACE axis port = words_from_1 register_mode = both register
#pragma HLS INTERFACE axis port = results register_mode = both register
#pragma HLS INTERFACE ap_ctrl_none port = return
  using namespace bertile;
  EngineMemory memory;
#pragma HLS BIND_STORAGE variable = memory.activation type = ram_t2p impl = uram
#pragma HLS ARRAY_PARTITION variable = memory.activation complete dim = 1
#pragma HLS ARRAY_PARTITION variable = memory.activation block factor = kCapacityActivationBanks dim = 2
#pragma HLS ARRAY_PARTITION variable = memory.row_scale complete dim = 0
#pragma HLS ARRAY_PARTITION variable = memory.tile complete dim = 1
  const WordPorts ports = {words, words_from_0, words_from_1};
  memory.received = 0;
  memory.received_from[0] = memory.received_from[1] = 0;
  memory.error = kEngineErrorNone;
  Command command = NextCommand(commands, ports, memory);
Launch_Command:
  while (command.opcode != kEngineOpcodeHalt) {
    Execute(command, memory, tiles, ports, results);
    command = NextCommand(commands, ports, memory);
  }
  AwaitWords(command.await_words, command, ports, memory);
  results.write(StatusResult(memory));
}
