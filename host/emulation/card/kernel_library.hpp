// Between the emulated card and the kernels on it: the BITSTREAM section of an xclbin is a shared library with these.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct BertileCardUnit {
  const char* name;       // of the instance that the host starts
  uint64_t base_address;  // of its registers
  uint32_t bank;          // memory that all of its ports are connected to
};

struct BertileCardArgument {
  const char* name;
  uint32_t offset;  // of its 64-bit register
};

// Changes with anything in this file: the card and the kernels may come from different builds.
const uint32_t kBertileCardVersion = 2;

// Made by bertile.emulation.tables from spec/.
struct BertileCard {
  uint32_t version;
  uint32_t units;
  const BertileCardUnit* unit;
  uint32_t arguments;
  const BertileCardArgument* argument;
  const uint64_t* bank_bytes;  // of each memory; the first begins at 0, each of the others where one ends
};

const BertileCard* bertile_card();

void* bertile_card_open(uint32_t unit);  // number in the table
void bertile_card_close(void* unit);

// A launch: arguments are pointers, in the order of the kernel's parameters. One that the units share runs once all of
// them are started. Returns 0, or 1 with the reason in `error`.
int bertile_card_launch(void* unit, void* const* arguments, char* error, size_t error_bytes);
}
