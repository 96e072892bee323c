// The C interface of the C-simulation, for Python (bertile.devices.csim).
#include <cstring>

#include "bertile_engine.hpp"
#include "compute_unit.hpp"

extern "C" {

uint64_t bertile_csim_spec_digest() { return bertile::kSpecDigest; }

// The buffers a host gives the kernel of one unit.
struct BertileBuffers {
  const uint8_t* program;
  const uint8_t* weights;
  const uint8_t* parameters;
  const uint8_t* launch;
  const int8_t* input;
  int8_t* output;
  uint8_t* status;
};

// Buffers of one unit, or of all that run the launch together. late_words: as WordTiming::kLate. Returns 0, or 1 with
// the reason in `error`.
int bertile_csim_launch(const BertileBuffers* buffers, size_t units, int late_words, double deadlock_seconds,
                        char* error, size_t error_bytes) {
  using namespace bertile;
  std::string why;
  try {
    std::vector<ComputeUnitMemory> memory;
    for (size_t unit = 0; unit < units; ++unit) {
      const BertileBuffers& own = buffers[unit];
      memory.push_back({reinterpret_cast<const Beat*>(own.program), reinterpret_cast<const Beat*>(own.weights),
                        reinterpret_cast<const Beat*>(own.parameters), reinterpret_cast<const Beat*>(own.launch),
                        reinterpret_cast<const Word*>(own.input), reinterpret_cast<Word*>(own.output),
                        reinterpret_cast<Beat*>(own.status)});
    }
    const Engine engine = [](const EngineStreams& s) {
      bertile_engine(s.commands, s.tiles, s.words, s.words_from_0, s.words_from_1, s.results);
    };
    const WordTiming timing = late_words ? WordTiming::kLate : WordTiming::kEarly;
    why = RunComputeUnits(memory, engine, timing, deadlock_seconds);
  } catch (const std::exception& exception) {
    why = exception.what();
  }
  std::strncpy(error, why.c_str(), error_bytes - 1);
  error[error_bytes - 1] = 0;
  return why.empty() ? 0 : 1;
}
}
