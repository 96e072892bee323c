// The C interface of the C-simulation, for Python (bertile.devices.csim).
#include <cstring>

#include "bertile_engine.hpp"
#include "compute_unit.hpp"

extern "C" {

uint64_t bertile_csim_spec_digest() { return bertile::kSpecDigest; }

// Buffers of one unit, or of all that run the launch together. late_words: as WordTiming::kLate. Returns 0, or 1 with
// the reason in `error`.
int bertile_csim_launch(const bertile::ComputeUnitMemory* buffers, size_t units, int late_words,
                        double deadlock_seconds, char* error, size_t error_bytes) {
  using namespace bertile;
  std::string why;
  try {
    const Engine engine = [](const EngineStreams& s) {
      bertile_engine(s.commands, s.tiles, s.words, s.words_from_0, s.words_from_1, s.results);
    };
    const WordTiming timing = late_words ? WordTiming::kLate : WordTiming::kEarly;
    why = RunComputeUnits({buffers, buffers + units}, engine, timing, deadlock_seconds);
  } catch (const std::exception& exception) {
    why = exception.what();
  }
  std::strncpy(error, why.c_str(), error_bytes - 1);
  error[error_bytes - 1] = 0;
  return why.empty() ? 0 : 1;
}
}
