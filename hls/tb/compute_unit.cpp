#include "compute_unit.hpp"

#include <unistd.h>

#include <deque>

namespace bertile {

namespace {

// Pass words on when the engine waits for one, never before.
void HoldWords(Stream<Beat>& from_encoder, Stream<Beat>& to_engine, const std::atomic<bool>& encoder_done,
               const std::atomic<bool>& engine_done) {
  std::deque<Beat> held;
  while (!Simulation::Current()->stopped()) {
    const bool last = encoder_done.load();
    Beat word;
    while (from_encoder.read_nb(word)) held.push_back(word);
    if (last && held.empty()) return;
    if (engine_done.load() && !held.empty()) throw std::runtime_error("the engine did not await all words");
    if (!held.empty() && to_engine.empty() && to_engine.reader_waits()) {
      to_engine.write(held.front());
      held.pop_front();
    } else {
      usleep(1);
    }
  }
}

}  // namespace

std::string RunComputeUnit(const ComputeUnitMemory& memory, WordTiming timing, double deadlock_seconds) {
  Simulation simulation(deadlock_seconds);
  {
    Stream<Beat, kStreamCommands> commands("engine_commands");
    Stream<Beat, kStreamTiles> tiles("engine_tiles");
    Stream<Beat, kStreamWords> words("engine_words");
    Stream<Beat, kStreamWords> late_words("late engine_words");
    Stream<WideWord, kStreamResults> results("engine_results");
    const bool late = timing == WordTiming::kLate;
    std::atomic<bool> encoder_done(false);
    std::atomic<bool> engine_done(false);
    Dataflow kernels;
    kernels.Launch("bertile_encoder", [&] {
      bertile_encoder(memory.program, memory.weights, memory.parameters, memory.launch, memory.input, memory.output,
                      memory.status, commands, tiles, words, results);
      encoder_done.store(true);
    });
    if (late) kernels.Launch("HoldWords", [&] { HoldWords(words, late_words, encoder_done, engine_done); });
    kernels.Launch("bertile_engine", [&] {
      bertile_engine(commands, tiles, late ? late_words : words, results);
      engine_done.store(true);
    });
    kernels.Join();
  }
  return simulation.error();
}

}  // namespace bertile
