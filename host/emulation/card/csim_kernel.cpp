// The kernels of the emulated card in C-simulation.
#include "bertile_engine.hpp"
#include "card_tables.hpp"
#include "kernel_arguments.hpp"

extern "C" {

const BertileCard* bertile_card() { return &bertile::kCard; }

void* bertile_card_open() { return nullptr; }

void bertile_card_close(void*) {}

int bertile_card_launch(void*, void* const* arguments, char* error, size_t error_bytes) {
  using namespace bertile;
  std::string why;
  try {
    why = RunComputeUnit(MemoryOf(arguments), bertile_engine, WordTiming::kEarly, kDeadlockSeconds);
  } catch (const std::exception& exception) {
    why = exception.what();
  }
  return Report(why, error, error_bytes);
}
}
