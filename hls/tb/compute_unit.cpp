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

// The streams between encoder and engine.
struct Links {
  Stream<Beat, kStreamCommands> commands{"engine_commands"};
  Stream<Beat, kStreamTiles> tiles{"engine_tiles"};
  Stream<Beat, kStreamWords> words{"engine_words"};
  Stream<WideWord, kStreamResults> results{"engine_results"};
};

void RunEncoder(const ComputeUnitMemory& memory, Links& links) {
  bertile_encoder(memory.program, memory.weights, memory.parameters, memory.launch, memory.input, memory.output,
                  memory.status, links.commands, links.tiles, links.words, links.results);
}

}  // namespace

std::string RunComputeUnit(const ComputeUnitMemory& memory, const Engine& engine, WordTiming timing,
                           double deadlock_seconds) {
  Simulation simulation(deadlock_seconds);
  {
    Links links;
    Stream<Beat, kStreamWords> late_words("late engine_words");
    const bool late = timing == WordTiming::kLate;
    std::atomic<bool> encoder_done(false);
    std::atomic<bool> engine_done(false);
    Dataflow kernels;
    kernels.Launch("bertile_encoder", [&] {
      RunEncoder(memory, links);
      encoder_done.store(true);
    });
    if (late) kernels.Launch("HoldWords", [&] { HoldWords(links.words, late_words, encoder_done, engine_done); });
    kernels.Launch("bertile_engine", [&] {
      engine(links.commands, links.tiles, late ? late_words : links.words, links.results);
      engine_done.store(true);
    });
    kernels.Join();
  }
  return simulation.error();
}

std::string RunTimedComputeUnit(const ComputeUnitMemory& memory, const Engine& engine, const TimingModel& timing,
                                double deadlock_seconds, uint64_t& cycles) {
  Simulation simulation(deadlock_seconds, &timing);
  {
    Links links;
    Dataflow kernels;
    kernels.Launch("bertile_encoder", [&] { RunEncoder(memory, links); });
    kernels.Launch("bertile_engine", [&] { engine(links.commands, links.tiles, links.words, links.results); });
    kernels.Join();
    cycles = kernels.last_cycle();
  }
  return simulation.error();
}

}  // namespace bertile
