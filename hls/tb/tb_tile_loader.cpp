// What the engine makes of packed tiles, for tests/contract/test_packets.py: `tb_tile_loader FILE TILES` reads beats
// and prints, for every tile, its parameters and each weight vector with the input feature it belongs to.
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>

#include "engine/tile_loader.hpp"

using namespace bertile;

namespace {

void PrintTile(const TileBuffer& tile) {
  std::cout << "tile " << tile.groups << "\n";
  for (const TileParameter& p : tile.parameter) {
    std::cout << "parameter " << p.bias << " " << p.multiplier << " " << +p.shift << "\n";
  }
  for (int group = 0; group < tile.groups; ++group) {
    for (int i = 0; i < kArrayInputs; ++i) {
      std::cout << "vector " << tile.index[group][i];
      for (int out = 0; out < kArrayOutputs; ++out) {
        std::cout << " " << int(int8_t(tile.weight[group].byte[i * kArrayOutputs + out]));
      }
      std::cout << "\n";
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) {
    std::cerr << "usage: tb_tile_loader FILE TILES\n";
    return 2;
  }
  std::ifstream file(arguments[1], std::ios::binary);
  const int tiles = std::atoi(arguments[2]);
  std::unique_ptr<TileBuffer> tile(new TileBuffer());
  TileLoader loader;
  for (int number = 0; number < tiles; ++number) {
    loader.Start();
    while (!loader.done()) {
      Beat beat;
      if (!file.read(reinterpret_cast<char*>(beat.byte), kPacketBeatBytes)) {
        std::cerr << "tile " << number << ": its packets run over the end\n";
        return 1;
      }
      loader.Accept(beat, *tile);
    }
    PrintTile(*tile);
  }
  if (file.peek() != std::ifstream::traits_type::eof()) {
    std::cerr << "beats behind the last tile\n";
    return 1;
  }
  return 0;
}
