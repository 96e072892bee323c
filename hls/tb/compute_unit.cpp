#include "compute_unit.hpp"

namespace bertile {

std::string RunComputeUnit(const ComputeUnitMemory& memory, double deadlock_seconds) {
  Simulation simulation(deadlock_seconds);
  {
    Stream<Beat, kStreamCommands> commands("engine_commands");
    Stream<Beat, kStreamTiles> tiles("engine_tiles");
    Stream<Beat, kStreamWords> words("engine_words");
    Stream<WideWord, kStreamResults> results("engine_results");
    Dataflow kernels;
    kernels.Launch("bertile_encoder", [&] {
      bertile_encoder(memory.program, memory.weights, memory.parameters, memory.launch, memory.input, memory.output,
                      memory.status, commands, tiles, words, results);
    });
    kernels.Launch("bertile_engine", [&] { bertile_engine(commands, tiles, words, results); });
    kernels.Join();
  }
  return simulation.error();
}

}  // namespace bertile
