#include "test_settings.hpp"

#include <cstdlib>
#include <sstream>
#include <stdexcept>

namespace bertile {

namespace {

// Throws a std::logic_error.
uint64_t CountOf(const std::string& text) {
  size_t end = 0;
  const unsigned long long count = std::stoull(text, &end);
  if (text[0] == '-' || end != text.size()) throw std::invalid_argument(text);
  return count;
}

}  // namespace

InjectedFaults InjectedFaults::Parse(const std::string& text) {
  InjectedFaults faults;
  std::istringstream list(text);
  for (std::string fault; std::getline(list, fault, ',');) {
    const size_t colon = fault.find(':');
    const std::string kind = fault.substr(0, colon);
    const std::string value = colon == std::string::npos ? "" : fault.substr(colon + 1);
    try {
      if (kind == "hang" && !value.empty()) {
        const size_t end = value.find(':');
        faults.hang = value.substr(0, end);
        if (end != std::string::npos) faults.hang_launch = CountOf(value.substr(end + 1));
      } else if (kind == "crash" && !value.empty()) {
        faults.crash = value;
      } else if (kind == "slow") {
        faults.slow_milliseconds = CountOf(value);
      } else {
        throw std::invalid_argument(kind);
      }
    } catch (const std::logic_error&) {
      throw std::runtime_error("BERTILE_EMU_FAULT: not a fault: " + fault);
    }
  }
  return faults;
}

uint64_t BankBytes() {
  const char* const text = std::getenv("BERTILE_EMU_BANK");
  if (!text || !*text) return 0;
  const std::string size(text);
  const size_t power = std::string("KMG").find(size.back());
  try {
    if (power == std::string::npos) throw std::invalid_argument(size);
    return CountOf(size.substr(0, size.size() - 1)) << (10 * (power + 1));
  } catch (const std::logic_error&) {
    throw std::runtime_error("BERTILE_EMU_BANK: not a size: " + size);
  }
}

}  // namespace bertile
