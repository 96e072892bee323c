// The C interface of the emulated compute unit with the RTL engine, for Python (bertile.devices.rtl).
#include <cstring>

#include "compute_unit.hpp"
#include "rtl_engine.hpp"

extern "C" {

// Assumed costs (spec/targets), in cycles.
struct BertileTiming {
  uint64_t crossing;
  uint64_t peer_crossing;
  uint64_t period_picoseconds;
  uint64_t memory_latency;
  double memory_bytes_per_cycle;
  uint64_t stages;
  const char* const* stage_names;
  const uint64_t* stage_latencies;
};

// file: null for none.
struct BertileWaves {
  const char* file;
  uint64_t first_command;
  uint64_t last_command;
};

uint64_t bertile_rtl_spec_digest() { return bertile::kSpecDigest; }

void* bertile_rtl_open() { return new bertile::RtlEngine; }

void bertile_rtl_close(void* device) { delete static_cast<bertile::RtlEngine*>(device); }

// End the launch that runs on another thread.
void bertile_rtl_stop(void* device) { static_cast<bertile::RtlEngine*>(device)->Stop(); }

// Devices and buffers of one unit, or of all that run the launch together; `counts`, too. `cycles`: of the launch.
// Returns 0, or 1 with the reason in `error`; the engines then are in an unknown state, and are to be closed.
int bertile_rtl_launch(void* const* devices, const bertile::ComputeUnitMemory* buffers, size_t units,
                       const BertileTiming* timing, const BertileWaves* waves, double deadlock_seconds,
                       uint64_t* cycles, bertile::EngineCounts* counts, char* error, size_t error_bytes) {
  using namespace bertile;
  std::string why;
  try {
    std::vector<RtlEngine*> engines;
    for (size_t unit = 0; unit < units; ++unit) engines.push_back(static_cast<RtlEngine*>(devices[unit]));
    TimingModel model;
    model.memory_latency = timing->memory_latency;
    model.memory_bytes_per_cycle = timing->memory_bytes_per_cycle;
    for (uint64_t i = 0; i < timing->stages; ++i) {
      model.latency[timing->stage_names[i]] = timing->stage_latencies[i];
    }
    const EngineLink link = {timing->crossing, timing->peer_crossing, timing->period_picoseconds};
    const Waves record = {waves->file ? waves->file : "", waves->first_command, waves->last_command};
    const ClockedEngines run = [&](const std::vector<EngineStreams>& streams) {
      RunEngines(engines, streams, link, record, counts);
    };
    why = RunTimedComputeUnits({buffers, buffers + units}, run, model, timing->peer_crossing, deadlock_seconds, *cycles);
  } catch (const std::exception& exception) {
    why = exception.what();
  }
  std::strncpy(error, why.c_str(), error_bytes - 1);
  error[error_bytes - 1] = 0;
  return why.empty() ? 0 : 1;
}
}
