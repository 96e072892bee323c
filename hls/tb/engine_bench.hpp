// bertile_engine alone, through its streams, against plain sums over a model of its activation memory.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "bertile_engine.hpp"
#include "testing.hpp"

namespace bertile {
namespace testing {

struct Tile {
  std::vector<int> index;                // input features
  std::vector<std::vector<int>> weight;  // [vector][16]
  TileParameter parameter[kArrayOutputs];
};

// Records words, commands and tiles, computes what must come back, then runs the engine. A launch ends with the status
// that Halt() expects; what comes behind is for the next launch of the same engine.
class EngineBench {
 public:
  explicit EngineBench(uint64_t seed) : random(seed), lanes_(kCapacityActivationWords, std::vector<int>(kWordTokens)) {}

  void SendWord(int address, int low, int high) {
    Beat beat = Header(address, kWordKindActivation);
    for (int lane = 0; lane < kWordTokens; ++lane) {
      lanes_[address][lane] = int(random.Extreme(low, high));
      beat.byte[lane] = uint8_t(lanes_[address][lane]);
    }
    words_.push_back(beat);
  }
  void SendWords(int address, int count, int low, int high, int rows = 1, int stride = 0) {
    for (int row = 0; row < rows; ++row) {
      for (int i = 0; i < count; ++i) SendWord(address + row * stride + i, low, high);
    }
  }
  void SendRowScales(int slot) {
    for (int half = 0; half < 2; ++half) {
      Beat beat = Header(2 * slot + half, kWordKindRowScale);
      for (int lane = 0; lane < 16; ++lane) {
        const int scale = int(random.Extreme(0, 65535));
        row_scale_[slot][16 * half + lane] = scale;
        beat.byte[2 * lane] = uint8_t(scale);
        beat.byte[2 * lane + 1] = uint8_t(scale >> 8);
      }
      words_.push_back(beat);
    }
  }

  // A word of any kind and address: the engine counts it, and no model of a memory takes it.
  void SendStrayWord(int address, int kind) {
    Beat beat = Header(address, kind);
    for (int lane = 0; lane < kWordTokens; ++lane) beat.byte[lane] = uint8_t(random.Between(0, 255));
    words_.push_back(beat);
  }

  // Keys and values of all commands to come are among the words sent so far.
  void EndWeights() { weight_words_ = words_.size(); }

  // A tile of `vectors` random vectors out of `inputs`; `short_packets` ends packets before they are full.
  Tile NewTile(int vectors, int inputs, int low = -127, int high = 127, bool short_packets = false) {
    std::vector<int> all;
    for (int i = 0; i < inputs; ++i) all.push_back(i);
    for (int i = 0; i < vectors; ++i) std::swap(all[i], all[random.Between(i, inputs - 1)]);
    Tile tile;
    tile.index.assign(all.begin(), all.begin() + vectors);
    std::sort(tile.index.begin(), tile.index.end());
    for (int i = 0; i < vectors; ++i) {
      tile.weight.push_back(std::vector<int>(kArrayOutputs));
      for (int& weight : tile.weight.back()) weight = int(random.Extreme(low, high));
    }
    for (TileParameter& parameter : tile.parameter) {
      parameter.bias = int32_t(random.Extreme(-(1 << 30), 1 << 30));
      if (random.Chance(60)) parameter.bias /= 1 << 14;
      parameter.multiplier = uint16_t(random.Extreme(0, 65535));
      parameter.shift = uint8_t(random.Chance(90) ? random.Between(20, 34) : random.Extreme(0, kLawShiftMax));
    }
    Encode(tile, short_packets);
    return tile;
  }

  // A gemm over every tile made since the last one.
  void Gemm(const std::vector<Tile>& tiles, int source, int stride, int row_first, int row_count, bool is_unsigned,
            int bits) {
    Command command = NewCommand(kEngineOpcodeGemm, source, stride, bits, int(tiles.size()));
    command.flags = is_unsigned ? 1 << kFlagUnsignedSource : 0;
    command.row_first = uint8_t(row_first);
    command.row_count = uint8_t(row_count);
    Send(command);
    for (const Tile& tile : tiles) {
      for (int row = row_first; row < row_first + row_count; ++row) {
        for (int out = 0; out < kArrayOutputs; ++out) {
          const TileParameter& p = tile.parameter[out];
          Expect(bits, [&](int lane) {
            Exact sum = p.bias;
            for (size_t v = 0; v < tile.index.size(); ++v) {
              sum += tile.weight[v][out] * Lane((source + row * stride) % 65536 + tile.index[v], lane, is_unsigned);
            }
            return RoundedQuotient(sum * p.multiplier, p.shift);
          });
        }
      }
    }
  }

  // Scores of query row block `row` against `keys` keys from address `key`; the values of padding keys count, too.
  void Scores(int query, int key, int stride, int row, int keys, int head_size, bool reload) {
    Command command = NewCommand(kEngineOpcodeScores, query, stride, 16, (keys + 15) / 16);
    command.flags = reload ? 1 << kFlagReload : 0;
    command.row_first = uint8_t(row);
    command.row_count = 1;
    command.weight = uint16_t(key);
    command.weight_stride = uint16_t(stride);
    command.keys = uint16_t(keys);
    command.head_size = uint8_t(head_size);
    command.multiplier = uint16_t(random.Between(1, 65535));
    command.shift = uint8_t(random.Between(18, 24));
    Send(command);
    for (int k = 0; k < (keys + 15) / 16 * 16; ++k) {
      Expect(16, [&](int lane) {
        Exact sum = 0;
        for (int f = 0; f < head_size; ++f) {
          sum += Lane(query + row * stride + f, lane, false) * Lane(key + k / 32 * stride + f, k % 32, false);
        }
        return RoundedQuotient(sum * command.multiplier, command.shift);
      });
    }
  }

  // Context of one row block: probabilities at `probability`, values from address `value`.
  void Context(int probability, int value, int stride, int slot, int keys, int head_size, bool reload) {
    Command command = NewCommand(kEngineOpcodeContext, probability, 0, 8, head_size / 16);
    command.flags = uint8_t(1 << kFlagUnsignedSource | (reload ? 1 << kFlagReload : 0));
    command.row_count = 1;
    command.weight = uint16_t(value);
    command.weight_stride = uint16_t(stride);
    command.keys = uint16_t(keys);
    command.head_size = uint8_t(head_size);
    command.row_scale_slot = uint16_t(slot);
    command.shift = uint8_t(random.Between(24, 30));
    Send(command);
    for (int f = 0; f < head_size; ++f) {
      Expect(8, [&](int lane) {
        Exact sum = 0;
        for (int k = 0; k < keys; ++k) {
          sum += Lane(probability + k, lane, true) * Lane(value + k / 32 * stride + f, k % 32, false);
        }
        return RoundedQuotient(sum * row_scale_[slot][lane], command.shift);
      });
    }
  }

  // Any command. The engine must send `results` words for it, whatever they hold.
  void Raw(const Command& command, int results) {
    Send(command);
    for (int i = 0; i < results; ++i) {
      expected_.push_back(WideWord());
      matters_.push_back(false);
    }
  }

  // A tile of one packet with these index entries; its weights are zero.
  void TileOfEntries(const std::vector<uint16_t>& entries, int weight_beats) {
    for (int beat = 0; beat < 2; ++beat) tiles_.push_back(Beat());
    Beat indices = {};
    for (size_t i = 0; i < entries.size(); ++i) {
      indices.byte[2 * i] = uint8_t(entries[i]);
      indices.byte[2 * i + 1] = uint8_t(entries[i] >> 8);
    }
    tiles_.push_back(indices);
    for (int beat = 0; beat < weight_beats; ++beat) tiles_.push_back(Beat());
  }

  // A tile of many packets of one vector each: as many weight beats.
  void LongTile(int packets) {
    for (int beat = 0; beat < 2; ++beat) tiles_.push_back(Beat());
    for (int packet = 0; packet < packets; ++packet) {
      Beat indices = {};
      indices.byte[1] = uint8_t(0x40 | (packet + 1 == packets ? 0x80 : 0));
      tiles_.push_back(indices);
      tiles_.push_back(Beat());
    }
  }

  // A command that multiplies nothing: sums are the biases of its tiles, or zero.
  void Blank(const Command& command, const std::vector<Tile>& tiles = {}) {
    Send(command);
    for (int number = 0; number < command.tiles; ++number) {
      for (int i = 0; i < command.row_count * kArrayOutputs; ++i) {
        const int bits = command.limit_high == 127 ? 8 : 16;
        if (tiles.empty()) {
          Expect(bits, [](int) { return Exact(0); });
        } else {
          const TileParameter& p = tiles[number].parameter[i % kArrayOutputs];
          Expect(bits, [&](int) { return RoundedQuotient(Exact(p.bias) * p.multiplier, p.shift); });
        }
      }
    }
  }

  Command NewCommand(int opcode, int source, int stride, int bits, int tiles) const {
    Command command = {};
    command.opcode = uint8_t(opcode);
    command.row_count = 1;
    command.await_words = uint32_t(words_.size() - words_before_);
    command.await_weight = uint32_t((weight_words_ ? weight_words_ : words_.size()) - words_before_);
    command.source = uint16_t(source);
    command.source_stride = uint16_t(stride);
    command.tiles = uint16_t(tiles);
    command.limit_low = int16_t(-(1 << (bits - 1)));
    command.limit_high = int16_t((1 << (bits - 1)) - 1);
    return command;
  }

  // End a launch; the engine must answer with this error.
  void Halt(int error = kEngineErrorNone) {
    Command halt = NewCommand(kEngineOpcodeHalt, 0, 0, 8, 0);
    halt.row_count = 0;
    Send(halt);
    WideWord status = {};
    for (int lane = 0; lane < 4; ++lane) status.lane[lane] = int16_t(kSpecDigest >> (16 * lane));
    status.lane[4] = int16_t(error);
    expected_.push_back(status);
    matters_.push_back(true);
    words_before_ = words_.size();
    launch_words_.push_back(words_.size());
  }

  // Empty, or the first difference. `stalls`: every stream's far side pauses now and then.
  std::string Run(bool stalls = false) {
    if (launch_words_.empty()) Halt();
    std::vector<WideWord> results;
    std::atomic<size_t> launches_done(0);
    const std::string failure = Simulate([&] {
      Stream<Beat, kStreamCommands> commands("commands");
      Stream<Beat, kStreamTiles> tiles("tiles");
      Stream<Beat, 8> words("words");
      Stream<Beat, 8> from_0("words_from_0");
      Stream<Beat, 8> from_1("words_from_1");
      Stream<WideWord, 8> out("results");
      Dataflow stages;
      stages.Launch("bertile_engine", [&] {
        for (size_t i = 0; i < launch_words_.size(); ++i) {
          bertile_engine(commands, tiles, words, from_0, from_1, out);
          ++launches_done;
        }
      });
      stages.Launch("feed commands", [&] { Feed(commands_, commands); });
      stages.Launch("feed tiles", [&] { Each(tiles_.size(), stalls, [&](size_t i) { tiles.write(tiles_[i]); }); });
      stages.Launch("feed words", [&] {
        Each(words_.size(), stalls, [&](size_t i) {
          AwaitLaunch(i, launches_done);
          words.write(words_[i]);
        });
      });
      stages.Launch("collect", [&] { Each(expected_.size(), stalls, [&](size_t) { results.push_back(out.read()); }); });
      stages.Join();
    });
    if (!failure.empty()) return failure;
    Comparison comparison("result");
    size_t count = 0;
    for (size_t i = 0; i < results.size(); ++i) {
      if (!matters_[i]) continue;
      for (int lane = 0; lane < kWordTokens; ++lane) comparison.Equal(results[i].lane[lane], expected_[i].lane[lane]);
      count += kWordTokens;
    }
    return results.size() == expected_.size() ? comparison.Result(count) : "results are missing";
  }

  Random random;

 private:
  static Beat Header(int address, int kind) {
    Beat beat = {};
    beat.byte[32] = uint8_t(address);
    beat.byte[33] = uint8_t(address >> 8);
    beat.byte[34] = uint8_t(kind);
    return beat;
  }
  int Lane(int address, int lane, bool is_unsigned) const {  // sent as -128..255; int8 lanes hold it modulo 256
    const int value = lanes_[address][lane];
    return is_unsigned ? value & 255 : value > 127 ? value - 256 : value;
  }
  void Send(const Command& command) {
    Beat beat = {};
    EncodeCommand(command, beat.byte);
    commands_.push_back(beat);
  }
  template <typename Value>
  void Expect(int bits, Value value) {
    WideWord word;
    for (int lane = 0; lane < kWordTokens; ++lane) {
      word.lane[lane] = int16_t(Saturated(value(lane), -(1 << (bits - 1)), (1 << (bits - 1)) - 1));
    }
    expected_.push_back(word);
    matters_.push_back(true);
  }
  void Encode(const Tile& tile, bool short_packets) {
    for (int beat = 0; beat < 2; ++beat) {
      tiles_.push_back(Beat());
      for (int i = 0; i < 8; ++i) EncodeTileParameter(tile.parameter[8 * beat + i], tiles_.back().byte, 8 * i);
    }
    const size_t total = tile.index.size();
    size_t next = 0;
    do {
      const size_t room = short_packets ? size_t(random.Between(1, 32)) : 32;
      const size_t count = std::min(room, total - next);
      Beat indices = {};
      for (size_t i = 0; i < count; ++i) {
        indices.byte[2 * i] = uint8_t(tile.index[next + i]);
        indices.byte[2 * i + 1] = uint8_t(tile.index[next + i] >> 8 | 0x40);
      }
      if (next + count == total) indices.byte[1] |= 0x80;
      tiles_.push_back(indices);
      for (size_t i = 0; i < count; ++i) {
        if (i % 4 == 0) tiles_.push_back(Beat());
        for (int out = 0; out < 16; ++out) tiles_.back().byte[i % 4 * 16 + out] = uint8_t(tile.weight[next + i][out]);
      }
      next += count;
    } while (next < total);
  }
  // The encoder sends no word of a launch before the answer to the last one.
  void AwaitLaunch(size_t word, const std::atomic<size_t>& launches_done) const {
    size_t launch = 0;
    while (launch < launch_words_.size() && word >= launch_words_[launch]) ++launch;
    while (launches_done.load() < launch && !Simulation::Current()->stopped()) std::this_thread::yield();
  }
  template <typename Action>
  static void Each(size_t count, bool pauses, Action action) {
    Random random(count);
    for (size_t i = 0; i < count; ++i) {
      if (pauses && random.Chance(4)) std::this_thread::sleep_for(std::chrono::microseconds(200));
      action(i);
    }
  }

  std::vector<std::vector<int>> lanes_;  // the activation memory
  int row_scale_[kCapacityProbabilitySlots][kWordTokens] = {};
  std::vector<Beat> commands_, tiles_, words_;
  std::vector<WideWord> expected_;
  std::vector<bool> matters_;         // which of them are compared
  size_t words_before_ = 0;           // of earlier launches
  size_t weight_words_ = 0;           // up to EndWeights
  std::vector<size_t> launch_words_;  // words up to the end of each launch
};

}  // namespace testing
}  // namespace bertile
