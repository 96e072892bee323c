// The kernels of the emulated card with the Verilated RTL engine, in the simulated time of spec/targets.
#include "card_tables.hpp"
#include "kernel_arguments.hpp"
#include "rtl_engine.hpp"

extern "C" {

const BertileCard* bertile_card() { return &bertile::kCard; }

void* bertile_card_open() { return new bertile::RtlEngine; }

void bertile_card_close(void* unit) { delete static_cast<bertile::RtlEngine*>(unit); }

int bertile_card_launch(void* unit, void* const* arguments, char* error, size_t error_bytes) {
  using namespace bertile;
  std::string why;
  try {
    TimingModel timing;
    timing.memory_latency = kTargetTiming.memory_latency;
    timing.memory_bytes_per_cycle = kTargetTiming.memory_bytes_per_cycle;
    for (uint64_t i = 0; i < kTargetTiming.stages; ++i) {
      timing.latency[kTargetTiming.latency[i].stage] = kTargetTiming.latency[i].cycles;
    }
    RtlEngine& rtl = *static_cast<RtlEngine*>(unit);
    const EngineLink link = {kTargetTiming.crossing, kTargetTiming.period_picoseconds};
    EngineCounts counts;
    const Engine engine = [&](Stream<Beat>& commands, Stream<Beat>& tiles, Stream<Beat>& words,
                              Stream<WideWord>& results) {
      rtl.Run(commands, tiles, words, results, link, Waves(), counts);
    };
    uint64_t cycles = 0;
    why = RunTimedComputeUnit(MemoryOf(arguments), engine, timing, kDeadlockSeconds, cycles);
  } catch (const std::exception& exception) {
    why = exception.what();
  }
  return Report(why, error, error_bytes);
}
}
