// The kernels of the emulated card in C-simulation.
#include "bertile_engine.hpp"
#include "card_tables.hpp"
#include "kernel_arguments.hpp"
#include "team.hpp"

namespace {

bertile::Team team;

std::string Run(const std::vector<bertile::ComputeUnitMemory>& memory) {
  using namespace bertile;
  const Engine engine = [](const EngineStreams& s) {
    bertile_engine(s.commands, s.tiles, s.words, s.words_from_0, s.words_from_1, s.results);
  };
  return RunComputeUnits(memory, engine, WordTiming::kEarly, kDeadlockSeconds);
}

}  // namespace

extern "C" {

const BertileCard* bertile_card() { return &bertile::kCard; }

void* bertile_card_open(uint32_t unit) { return new uint32_t(unit); }

void bertile_card_close(void* unit) { delete static_cast<uint32_t*>(unit); }

int bertile_card_launch(void* unit, void* const* arguments, char* error, size_t error_bytes) {
  using namespace bertile;
  std::string why;
  try {
    const ComputeUnitMemory memory = MemoryOf(arguments);
    why = IsCooperative(memory) ? team.Launch(*static_cast<uint32_t*>(unit), memory, Run) : Run({memory});
  } catch (const std::exception& exception) {
    why = exception.what();
  }
  return Report(why, error, error_bytes);
}
}
