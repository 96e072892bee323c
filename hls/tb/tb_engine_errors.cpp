// What the engine answers to halt, and what it does with commands, tiles and words that cannot be right: it says which
// mistake was the first, sends as many results as its commands ask for, and is as good as new for the next launch.
#include "engine_bench.hpp"

using namespace bertile;
using namespace bertile::testing;

namespace {

const int kInputs = 40;
const int kSource = 100;

// A correct gemm: it shows that the engine has kept its place in every stream. Each has words of its own, because they
// may arrive while an earlier one runs.
void SendGoodGemm(EngineBench& bench, int address) {
  bench.SendWords(address, kInputs, -128, 127, 2, kInputs);
  bench.Gemm({bench.NewTile(20, kInputs), bench.NewTile(33, kInputs)}, address, kInputs, 0, 2, false, 8);
}

// `mistake` between correct gemms; a second launch knows nothing of it.
std::string Answer(int error, const std::function<void(EngineBench&)>& mistake, bool stalls = false) {
  EngineBench bench(uint64_t(error) + 40);
  SendGoodGemm(bench, 100);
  mistake(bench);
  SendGoodGemm(bench, 200);
  bench.Halt(error);
  SendGoodGemm(bench, 300);
  bench.Halt();
  return bench.Run(stalls);
}

Command GemmCommand(const EngineBench& bench, int tiles) {
  return bench.NewCommand(kEngineOpcodeGemm, kSource, kInputs, 8, tiles);
}

Command ScoresCommand(const EngineBench& bench) {
  Command command = bench.NewCommand(kEngineOpcodeScores, 0, 64, 16, 3);
  command.flags = 1 << kFlagReload;
  command.weight = 1000;
  command.weight_stride = 64;
  command.keys = 41;
  command.head_size = 32;
  command.multiplier = 1000;
  command.shift = 20;
  return command;
}

Command ContextCommand(const EngineBench& bench) {
  Command command = ScoresCommand(bench);
  command.opcode = kEngineOpcodeContext;
  command.flags |= 1 << kFlagUnsignedSource;
  command.tiles = 2;
  command.limit_low = -128;
  command.limit_high = 127;
  return command;
}

std::string UnknownOpcode() {
  return Answer(kEngineErrorOpcode, [](EngineBench& bench) {
    Command command = GemmCommand(bench, 3);
    command.opcode = 77;
    command.await_words = 1 << 30;  // nothing of it is believed
    bench.Raw(command, 0);
  });
}

std::string EmptyCommand(bool no_tiles, const Command& valid) {
  return Answer(kEngineErrorShape, [&](EngineBench& bench) {
    Command command = valid;
    if (no_tiles) command.tiles = 0;
    if (!no_tiles) command.row_count = 0;
    bench.Raw(command, 0);
  });
}

std::string BlankGemm(int row_first, int row_count) {
  return Answer(kEngineErrorShape, [&](EngineBench& bench) {
    const std::vector<Tile> tiles = {bench.NewTile(20, kInputs), bench.NewTile(0, kInputs), bench.NewTile(3, kInputs)};
    Command command = GemmCommand(bench, 3);
    command.row_first = uint8_t(row_first);
    command.row_count = uint8_t(row_count);
    bench.Blank(command, tiles);
  });
}

typedef std::function<void(Command&)> Change;

std::string BlankAttention(Command (*valid)(const EngineBench&), const Change& change) {
  return Answer(kEngineErrorShape, [&](EngineBench& bench) {
    Command command = valid(bench);
    change(command);
    bench.Blank(command);
  });
}

// The same command unchanged: the changes are what makes it blank.
std::string ValidAttention() {
  return Answer(kEngineErrorNone, [](EngineBench& bench) {
    bench.SendWords(1000, 128, -128, 127);
    bench.SendRowScales(0);
    bench.Raw(ScoresCommand(bench), 48);
    bench.Raw(ContextCommand(bench), 32);
    Command last_row = ContextCommand(bench);
    last_row.row_first = kCapacityRowBlocks - 1;
    last_row.row_scale_slot = kCapacityProbabilitySlots - 1;
    last_row.shift = kLawShiftMax;
    bench.Raw(last_row, 32);
  });
}

void ReportBlankAttention(Cases& cases) {
  const struct {
    const char* name;
    Change change;
  } changes[] = {
      {"row block behind the last", [](Command& c) { c.row_first = kCapacityRowBlocks; }},
      {"255 row blocks", [](Command& c) { c.row_count = 255; }},
      {"a tile too many", [](Command& c) { ++c.tiles; }},
      {"a tile too few", [](Command& c) { --c.tiles; }},
      {"head size 0", [](Command& c) { c.head_size = 0; }},
      {"head size 40", [](Command& c) { c.head_size = 40; }},
      {"head size 80", [](Command& c) { c.head_size = 80; }},
      {"head size 240", [](Command& c) { c.head_size = 240; }},
      {"no keys", [](Command& c) { c.keys = 0; }},
      {"513 keys", [](Command& c) { c.keys = kCapacityTokens + 1; }},
      {"65,535 keys", [](Command& c) { c.keys = 65535; }},
      {"shift 48", [](Command& c) { c.shift = kLawShiftMax + 1; }},
      {"shift 255", [](Command& c) { c.shift = 255; }},
  };
  for (const auto& entry : changes) {
    cases.Report(std::string("blank scores, ") + entry.name, BlankAttention(ScoresCommand, entry.change));
    cases.Report(std::string("blank context, ") + entry.name, BlankAttention(ContextCommand, entry.change));
  }
  // Tile counts that fit the wrong number, so that nothing else is wrong.
  cases.Report("blank scores, 513 keys in 33 tiles", BlankAttention(ScoresCommand, [](Command& c) {
                 c.keys = 513;
                 c.tiles = 33;
               }));
  cases.Report("blank context, head size 80 in 5 tiles", BlankAttention(ContextCommand, [](Command& c) {
                 c.head_size = 80;
                 c.tiles = 5;
               }));
  cases.Report("blank context, slot 3", BlankAttention(ContextCommand, [](Command& c) {
                 c.row_scale_slot = kCapacityProbabilitySlots;
               }));
  cases.Report("blank context, slot 65,535", BlankAttention(ContextCommand, [](Command& c) {
                 c.row_scale_slot = 65535;
               }));
}

// A tile whose last input is `index`, over rows of kInputs words.
std::string Index(int index, int error) {
  return Answer(error, [&](EngineBench& bench) {
    const uint16_t valid = 1 << kPacketValidBit;
    bench.TileOfEntries({uint16_t(1 << kPacketLastBit | valid), uint16_t(valid | index)}, 1);
    bench.Raw(GemmCommand(bench, 1), 16);
  });
}

std::string GemmAddress(int source, int row_first, int error) {
  return Answer(error, [&](EngineBench& bench) {
    const uint16_t valid = 1 << kPacketValidBit;
    bench.TileOfEntries({uint16_t(1 << kPacketLastBit | valid | (kInputs - 1))}, 1);
    Command command = GemmCommand(bench, 1);
    command.source = uint16_t(source);
    command.row_first = uint8_t(row_first);
    bench.Raw(command, 16);
  });
}

std::string AttentionAddress(bool is_scores, int source, int weight, int weight_stride, int error) {
  return Answer(error, [&](EngineBench& bench) {
    Command command = is_scores ? ScoresCommand(bench) : ContextCommand(bench);
    command.source = uint16_t(source);
    command.weight = uint16_t(weight);
    command.weight_stride = uint16_t(weight_stride);
    bench.Raw(command, is_scores ? 48 : 32);
  });
}

void ReportAddresses(Cases& cases) {
  const int end = kCapacityActivationWords, none = kEngineErrorNone, address = kEngineErrorAddress;
  cases.Report("gemm up to the last word", GemmAddress(end - kInputs, 0, none));
  cases.Report("gemm one word further", GemmAddress(end - kInputs + 1, 0, address));
  cases.Report("gemm past the memory by its row block", GemmAddress(end - 15 * kInputs, 15, address));
  cases.Report("gemm from the last address of 16 bits", GemmAddress(65535 - kInputs, 0, address));
  cases.Report("queries up to the last word", AttentionAddress(true, end - 32, 0, 64, none));
  cases.Report("queries one word further", AttentionAddress(true, end - 31, 0, 64, address));
  cases.Report("keys up to the last word", AttentionAddress(true, 0, end - 64 - 32, 64, none));
  cases.Report("keys one word further", AttentionAddress(true, 0, end - 64 - 31, 64, address));
  cases.Report("keys around 16 bits", AttentionAddress(true, 0, 30000, 65535 - 29000, none));
  cases.Report("softmax output up to the last word", AttentionAddress(false, end - 44, 0, 64, none));
  cases.Report("softmax output one word further", AttentionAddress(false, end - 43, 0, 64, address));
  cases.Report("values up to the last word", AttentionAddress(false, 0, end - 64 - 32, 64, none));
  cases.Report("values one word further", AttentionAddress(false, 0, end - 64 - 31, 64, address));
}

std::string GapInEntries() {
  return Answer(kEngineErrorPacket, [](EngineBench& bench) {
    const uint16_t valid = 1 << kPacketValidBit;
    bench.TileOfEntries({uint16_t(1 << kPacketLastBit | valid), 0, uint16_t(valid | 2)}, 1);
    bench.Raw(GemmCommand(bench, 1), 16);
  });
}

// Every entry valid, and no entry valid at all: nothing is wrong with either.
std::string FullAndEmptyPackets() {
  return Answer(kEngineErrorNone, [](EngineBench& bench) {
    bench.TileOfEntries(std::vector<uint16_t>(32, 1 << kPacketLastBit | 1 << kPacketValidBit), 8);
    bench.TileOfEntries({1 << kPacketLastBit}, 0);
    bench.Raw(GemmCommand(bench, 2), 32);
  });
}

// `packets` of one vector each, so as many weight beats.
std::string LongTile(int packets, int error, bool stalls) {
  return Answer(
      error,
      [&](EngineBench& bench) {
        bench.NewTile(9, kInputs);
        bench.LongTile(packets);
        bench.Raw(GemmCommand(bench, 2), 32);
      },
      stalls);
}

std::string StrayWord(int address, int kind, int error) {
  return Answer(error, [&](EngineBench& bench) { bench.SendStrayWord(address, kind); });
}

void ReportWords(Cases& cases) {
  const int word = kEngineErrorWord;
  cases.Report("word of kind 2", StrayWord(0, 2, word));
  cases.Report("word of kind 255", StrayWord(kSource, 255, word));
  cases.Report("activation word at the last address",
               StrayWord(kCapacityActivationWords - 1, kWordKindActivation, kEngineErrorNone));
  cases.Report("activation word past the memory", StrayWord(kCapacityActivationWords, kWordKindActivation, word));
  cases.Report("activation word at 65,535", StrayWord(65535, kWordKindActivation, word));
  cases.Report("row scales of the last slot",
               StrayWord(2 * kCapacityProbabilitySlots - 1, kWordKindRowScale, kEngineErrorNone));
  cases.Report("row scales past the last slot", StrayWord(2 * kCapacityProbabilitySlots, kWordKindRowScale, word));
  cases.Report("row scales at 65,535", StrayWord(65535, kWordKindRowScale, word));
}

std::string HaltAlone() {
  EngineBench bench(50);
  for (int launch = 0; launch < 3; ++launch) bench.Halt();
  return bench.Run();
}

std::string FirstErrorStays() {
  return Answer(kEngineErrorWord, [](EngineBench& bench) {
    bench.SendStrayWord(0, 9);
    SendGoodGemm(bench, 400);
    Command unknown = GemmCommand(bench, 1);
    unknown.opcode = 4;
    bench.Raw(unknown, 0);
    Command empty = GemmCommand(bench, 0);
    bench.Raw(empty, 0);
  });
}

}  // namespace

int main() {
  Cases cases;
  cases.Report("halt alone, three launches", HaltAlone());
  cases.Report("no mistake", Answer(kEngineErrorNone, [](EngineBench&) {}));
  cases.Report("unknown opcode", UnknownOpcode());
  const EngineBench bench(0);
  const Command valid[] = {GemmCommand(bench, 2), ScoresCommand(bench), ContextCommand(bench)};
  for (const Command& command : valid) {
    const std::string name = "opcode " + std::to_string(command.opcode);
    cases.Report(name + " without tiles", EmptyCommand(true, command));
    cases.Report(name + " without row blocks", EmptyCommand(false, command));
  }
  cases.Report("blank gemm, 17 row blocks", BlankGemm(0, kCapacityRowBlocks + 1));
  cases.Report("blank gemm, row blocks 15 and 16", BlankGemm(kCapacityRowBlocks - 1, 2));
  cases.Report("blank gemm, 255 row blocks behind the 255th", BlankGemm(255, 255));
  cases.Report("attention within every range", ValidAttention());
  ReportBlankAttention(cases);
  cases.Report("index of the last word of a row block", Index(kInputs - 1, kEngineErrorNone));
  cases.Report("index past the row block", Index(kInputs, kEngineErrorIndex));
  cases.Report("index 4,095", Index(4095, kEngineErrorIndex));
  ReportAddresses(cases);
  cases.Report("valid entry behind an invalid one", GapInEntries());
  cases.Report("full packet, empty packet", FullAndEmptyPackets());
  cases.Report("tile of 1,024 weight beats", LongTile(kCapacityTileBeats, kEngineErrorNone, false));
  cases.Report("tile of 1,025 weight beats", LongTile(kCapacityTileBeats + 1, kEngineErrorPacket, false));
  cases.Report("tile of 3,000 weight beats, stalling streams", LongTile(3000, kEngineErrorPacket, true));
  ReportWords(cases);
  cases.Report("the first of several errors", FirstErrorStays());
  return cases.Finish();
}
