// What tests change of the card, through the environment.
#pragma once

#include <cstdint>
#include <string>

namespace bertile {

// BERTILE_EMU_FAULT, a list like "hang:encoder_2:3,slow:50".
struct InjectedFaults {
  std::string hang;                // this unit never finishes a launch:
  uint64_t hang_launch = 1;        // its first, or the one of this number
  std::string crash;               // this unit's next launch is given addresses where no buffer is
  uint64_t slow_milliseconds = 0;  // every launch takes so much longer

  static InjectedFaults Parse(const std::string& text);  // throws std::runtime_error
};

// BERTILE_EMU_BANK, like "64M": bytes of every memory bank; 0 when it is not set.
uint64_t BankBytes();  // throws std::runtime_error

}  // namespace bertile
