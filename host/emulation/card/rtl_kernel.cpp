// The kernels of the emulated card with the Verilated RTL engine, in the simulated time of spec/targets.
#include "card_tables.hpp"
#include "kernel_arguments.hpp"
#include "rtl_engine.hpp"
#include "team.hpp"

namespace {

struct Unit {
  uint32_t number;
  bertile::RtlEngine engine;
};

bertile::Team team;
bertile::RtlEngine* engines[bertile::kCooperationUnits];

std::string Run(const std::vector<bertile::RtlEngine*>& used, const std::vector<bertile::ComputeUnitMemory>& memory) {
  using namespace bertile;
  TimingModel timing;
  timing.memory_latency = kTargetTiming.memory_latency;
  timing.memory_bytes_per_cycle = kTargetTiming.memory_bytes_per_cycle;
  for (uint64_t i = 0; i < kTargetTiming.stages; ++i) {
    timing.latency[kTargetTiming.latency[i].stage] = kTargetTiming.latency[i].cycles;
  }
  const EngineLink link = {kTargetTiming.crossing, kTargetTiming.peer_crossing, kTargetTiming.period_picoseconds};
  std::vector<EngineCounts> counts(used.size());
  const ClockedEngines run = [&](const std::vector<EngineStreams>& streams) {
    RunEngines(used, streams, link, Waves(), counts.data());
  };
  uint64_t cycles = 0;
  return RunTimedComputeUnits(memory, run, timing, link.peer_crossing, kDeadlockSeconds, cycles);
}

std::string RunAll(const std::vector<bertile::ComputeUnitMemory>& memory) {
  return Run({engines, engines + bertile::kCooperationUnits}, memory);
}

}  // namespace

extern "C" {

const BertileCard* bertile_card() { return &bertile::kCard; }

void* bertile_card_open(uint32_t number) {
  Unit* const unit = new Unit{number, {}};
  if (number < uint32_t(bertile::kCooperationUnits)) engines[number] = &unit->engine;
  return unit;
}

void bertile_card_close(void* unit) { delete static_cast<Unit*>(unit); }

int bertile_card_launch(void* handle, void* const* arguments, char* error, size_t error_bytes) {
  using namespace bertile;
  std::string why;
  try {
    Unit& unit = *static_cast<Unit*>(handle);
    const ComputeUnitMemory memory = MemoryOf(arguments);
    why = IsCooperative(memory) ? team.Launch(unit.number, memory, RunAll) : Run({&unit.engine}, {memory});
  } catch (const std::exception& exception) {
    why = exception.what();
  }
  return Report(why, error, error_bytes);
}
}
