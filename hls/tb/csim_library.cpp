// The C interface of the C-simulation, for Python (bertile.devices.csim).
#include <cstring>

#include "bertile_engine.hpp"
#include "compute_unit.hpp"

extern "C" {

uint64_t bertile_csim_spec_digest() { return bertile::kSpecDigest; }

// Pointers are to the buffers a host gives the kernel. late_words: as WordTiming::kLate. Returns 0, or 1 with the
// reason in `error`.
int bertile_csim_launch(const uint8_t* program, const uint8_t* weights, const uint8_t* parameters,
                        const uint8_t* launch, const int8_t* input, int8_t* output, uint8_t* status,
                        int late_words, double deadlock_seconds, char* error, size_t error_bytes) {
  using namespace bertile;
  const ComputeUnitMemory memory = {reinterpret_cast<const Beat*>(program),
                                    reinterpret_cast<const Beat*>(weights),
                                    reinterpret_cast<const Beat*>(parameters),
                                    reinterpret_cast<const Beat*>(launch),
                                    reinterpret_cast<const Word*>(input),
                                    reinterpret_cast<Word*>(output),
                                    reinterpret_cast<Beat*>(status)};
  std::string why;
  try {
    const WordTiming timing = late_words ? WordTiming::kLate : WordTiming::kEarly;
    why = RunComputeUnit(memory, bertile_engine, timing, deadlock_seconds);
  } catch (const std::exception& exception) {
    why = exception.what();
  }
  std::strncpy(error, why.c_str(), error_bytes - 1);
  error[error_bytes - 1] = 0;
  return why.empty() ? 0 : 1;
}
}
