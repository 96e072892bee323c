// The engine kernel: sparse GEMMs, scores and context at the ends of every range, and commands back to back.
#include "engine_bench.hpp"

using namespace bertile;
using namespace bertile::testing;

namespace {

// Tiles of unequal sizes around the packet and array borders, among them an empty one; int8 and uint8 sources.
std::string SparseGemm(int source_low, int source_high, int rows, bool stalls) {
  const int inputs = 150, stride = 163, source = 11;
  EngineBench bench(100 + uint64_t(rows));
  bench.SendWords(source + 2 * stride, inputs, source_low, source_high, rows, stride);
  std::vector<Tile> tiles;
  const int sizes[] = {0, 1, 31, 32, 33, 64, 65, 0, 150, 3, 4, 5};
  for (int size : sizes) tiles.push_back(bench.NewTile(size, inputs));
  bench.Gemm(tiles, source, stride, 2, rows, source_high > 127, 8);
  return bench.Run(stalls);
}

std::string ShortPackets() {
  EngineBench bench(2);
  bench.SendWords(0, 200, -128, 127);
  std::vector<Tile> tiles;
  for (int size = 1; size < 200; size += 37) tiles.push_back(bench.NewTile(size, 200, -127, 127, true));
  bench.Gemm(tiles, 0, 200, 0, 1, false, 16);
  return bench.Run();
}

// All 4,096 inputs of the widest matrix, all weights and activations at one end: the largest accumulators.
std::string FullTiles(int weight, int lane, bool is_unsigned) {
  EngineBench bench(3);
  bench.SendWords(0, kCapacityFfn, lane, lane);
  const std::vector<Tile> tiles = {bench.NewTile(kCapacityFfn, kCapacityFfn, weight, weight),
                                   bench.NewTile(kCapacityFfn, kCapacityFfn)};
  bench.Gemm(tiles, 0, kCapacityFfn, 0, 1, is_unsigned, 16);
  return bench.Run();
}

std::string Widths() {
  EngineBench bench(4);
  bench.SendWords(0, 40, -128, 127);
  for (int bits : {8, 10, 16}) bench.Gemm({bench.NewTile(20, 40), bench.NewTile(40, 40)}, 0, 40, 0, 1, false, bits);
  return bench.Run();
}

// The far end of the activation memory: addresses wrap at 16 bits, as the program's chunk bases do.
std::string FarAddresses() {
  EngineBench bench(5);
  const int base = kCapacityActivationWords - 96, stride = 32;
  bench.SendWords(base, 96, -128, 127);
  bench.Gemm({bench.NewTile(32, 32)}, base - 5 * stride, stride, 5, 3, false, 8);
  bench.Gemm({bench.NewTile(32, 32)}, (base - 12 * 4096 + 65536) % 65536, 4096, 12, 1, false, 8);
  return bench.Run();
}

// Each command awaits words that are sent while the one before it runs.
std::string BackToBack(bool stalls) {
  EngineBench bench(6);
  for (int i = 0; i < 6; ++i) {
    const int address = 300 * i;
    bench.SendWords(address, 90, i % 2 ? 0 : -128, i % 2 ? 255 : 127);
    std::vector<Tile> tiles;
    for (int j = 0; j <= i; ++j) tiles.push_back(bench.NewTile(int(bench.random.Between(0, 90)), 90));
    bench.Gemm(tiles, address, 90, 0, 1, i % 2 == 1, 8);
  }
  return bench.Run(stalls);
}

// Probabilities of one row block; those behind the last key are zero up to a whole tile, as softmax sends them.
void SendProbabilities(EngineBench& bench, int address, int slot, int keys) {
  bench.SendWords(address, keys, 0, 255);
  bench.SendWords(address + keys, -keys & 15, 0, 0);
  bench.SendRowScales(slot);
}

// Attention of one sequence. Keys and values are fetched for the first row block and stay for the others, whichever
// command comes in between; a gemm takes their memory, so they are fetched again behind it.
std::string Attention(int keys, int head_size, bool stalls) {
  EngineBench bench(uint64_t(keys * 100 + head_size));
  const int rows = (keys + 31) / 32, stride = 2 * head_size + 3;
  const int query = 5, key = 20 * stride, value = 40 * stride, probability = 60 * stride;
  bench.SendWords(query, head_size, -128, 127, rows, stride);
  bench.SendWords(key, head_size, -128, 127, rows, stride);
  bench.SendWords(value, head_size, -128, 127, rows, stride);
  for (int slot = 0; slot < kCapacityProbabilitySlots; ++slot) {
    SendProbabilities(bench, probability + slot * kCapacityTokens, slot, keys);
  }
  for (int row = 0; row < rows && row < 4; ++row) {
    const int slot = row % kCapacityProbabilitySlots;
    bench.Scores(query, key, stride, rows - 1 - row, keys, head_size, row == 0);
    bench.Context(probability + slot * kCapacityTokens, value, stride, slot, keys, head_size, row == 0);
  }
  bench.Gemm({bench.NewTile(head_size, head_size), bench.NewTile(1, head_size)}, query, stride, 0, rows, false, 8);
  bench.Context(probability, value, stride, 0, keys, head_size, true);
  bench.Scores(query, key, stride, 0, keys, head_size, true);
  return bench.Run(stalls);
}

// Keys and values are fetched before queries and softmax output have arrived, and these are awaited then.
std::string EarlyFetch() {
  EngineBench bench(8);
  bench.SendWords(1000, 64, -128, 127, 3, 64);
  bench.SendWords(2000, 64, -128, 127, 3, 64);
  bench.EndWeights();
  bench.SendWords(0, 64, -128, 127, 3, 64);
  bench.Scores(0, 1000, 64, 2, 70, 64, true);
  SendProbabilities(bench, 3000, 1, 70);
  bench.Context(3000, 2000, 64, 1, 70, 64, true);
  return bench.Run();
}

// Queries, keys, probabilities and values all at one end of their ranges, so that accumulators are the largest.
std::string AttentionExtremes(int lane) {
  EngineBench bench(7);
  bench.SendWords(0, 64, lane, lane, 16, 64);
  bench.SendWords(2000, 512, 255, 255);
  bench.SendRowScales(1);
  bench.Scores(0, 0, 64, 15, 512, 64, true);
  bench.Context(2000, 0, 64, 1, 512, 64, true);
  return bench.Run();
}

}  // namespace

int main() {
  Cases cases;
  cases.Report("sparse tiles, int8 source, one row block", SparseGemm(-128, 127, 1, false));
  cases.Report("sparse tiles, uint8 source, three row blocks", SparseGemm(0, 255, 3, false));
  cases.Report("sparse tiles, 14 row blocks, stalling streams", SparseGemm(-128, 127, 14, true));
  cases.Report("packets that end early", ShortPackets());
  cases.Report("full tiles, 127 x 127", FullTiles(127, 127, false));
  cases.Report("full tiles, -127 x -128", FullTiles(-127, -128, false));
  cases.Report("full tiles, 127 x 255", FullTiles(127, 255, true));
  cases.Report("full tiles, -127 x 255", FullTiles(-127, 255, true));
  cases.Report("results of 8, 10 and 16 bits", Widths());
  cases.Report("addresses at the end of the memory and around 16 bits", FarAddresses());
  cases.Report("commands back to back", BackToBack(false));
  cases.Report("commands back to back, stalling streams", BackToBack(true));
  for (int head_size : {32, 64}) {
    for (int keys : {1, 15, 16, 17, 33, 100, 512}) {
      const std::string name = "attention, " + std::to_string(keys) + " keys, head size " + std::to_string(head_size);
      cases.Report(name, Attention(keys, head_size, false));
    }
  }
  cases.Report("attention, 77 keys, stalling streams", Attention(77, 64, true));
  cases.Report("attention, keys and values ahead of the rest", EarlyFetch());
  cases.Report("attention, all -128", AttentionExtremes(-128));
  cases.Report("attention, all 127", AttentionExtremes(127));
  return cases.Finish();
}
