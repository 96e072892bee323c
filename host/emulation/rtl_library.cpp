// The C interface of the emulated compute unit with the RTL engine, for Python (bertile.devices.rtl).
#include <cstring>

#include "compute_unit.hpp"
#include "rtl_engine.hpp"

extern "C" {

// Assumed costs (spec/targets), in cycles.
struct BertileTiming {
  uint64_t crossing;
  uint64_t period_picoseconds;
  uint64_t memory_latency;
  double memory_bytes_per_cycle;
  uint64_t stages;
  const char* const* stage_names;
  const uint64_t* stage_latencies;
};

// The buffers a host gives the kernel.
struct BertileBuffers {
  const uint8_t* program;
  const uint8_t* weights;
  const uint8_t* parameters;
  const uint8_t* launch;
  const int8_t* input;
  int8_t* output;
  uint8_t* status;
};

// file: null for none.
struct BertileWaves {
  const char* file;
  uint64_t first_command;
  uint64_t last_command;
};

struct BertileCounts {
  uint64_t total;
  bertile::EngineCounts engine;
};

uint64_t bertile_rtl_spec_digest() { return bertile::kSpecDigest; }

void* bertile_rtl_open() { return new bertile::RtlEngine; }

void bertile_rtl_close(void* device) { delete static_cast<bertile::RtlEngine*>(device); }

// End the launch that runs on another thread.
void bertile_rtl_stop(void* device) { static_cast<bertile::RtlEngine*>(device)->Stop(); }

// Returns 0, or 1 with the reason in `error`; the engine then is in an unknown state, and is to be closed.
int bertile_rtl_launch(void* device, const BertileTiming* timing, const BertileBuffers* buffers,
                       const BertileWaves* waves, double deadlock_seconds, BertileCounts* counts, char* error,
                       size_t error_bytes) {
  using namespace bertile;
  const ComputeUnitMemory memory = {reinterpret_cast<const Beat*>(buffers->program),
                                    reinterpret_cast<const Beat*>(buffers->weights),
                                    reinterpret_cast<const Beat*>(buffers->parameters),
                                    reinterpret_cast<const Beat*>(buffers->launch),
                                    reinterpret_cast<const Word*>(buffers->input),
                                    reinterpret_cast<Word*>(buffers->output),
                                    reinterpret_cast<Beat*>(buffers->status)};
  std::string why;
  try {
    TimingModel model;
    model.memory_latency = timing->memory_latency;
    model.memory_bytes_per_cycle = timing->memory_bytes_per_cycle;
    for (uint64_t i = 0; i < timing->stages; ++i) {
      model.latency[timing->stage_names[i]] = timing->stage_latencies[i];
    }
    RtlEngine& rtl = *static_cast<RtlEngine*>(device);
    const EngineLink link = {timing->crossing, timing->period_picoseconds};
    const Waves record = {waves->file ? waves->file : "", waves->first_command, waves->last_command};
    const Engine engine = [&](Stream<Beat>& commands, Stream<Beat>& tiles, Stream<Beat>& words,
                              Stream<WideWord>& results) {
      rtl.Run(commands, tiles, words, results, link, record, counts->engine);
    };
    why = RunTimedComputeUnit(memory, engine, model, deadlock_seconds, counts->total);
  } catch (const std::exception& exception) {
    why = exception.what();
  }
  std::strncpy(error, why.c_str(), error_bytes - 1);
  error[error_bytes - 1] = 0;
  return why.empty() ? 0 : 1;
}
}
