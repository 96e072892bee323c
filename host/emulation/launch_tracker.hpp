// What the engine owes: which commands of a launch are unfinished, and when the launch has ended.
#pragma once

#include <deque>
#include <stdexcept>

#include "types.hpp"

namespace bertile {

class LaunchTracker {
 public:
  // A command that the engine skips has no results, but it counts.
  void Take(const Command& command) {
    const uint64_t number = commands_++;
    uint64_t results = uint64_t(command.tiles) * command.row_count * kArrayOutputs;
    if (command.opcode == kEngineOpcodeHalt) {
      halted_ = true;
      results = 1;
    } else if (command.opcode > kEngineOpcodeContext) {
      results = 0;
    }
    if (results) unfinished_.push_back(Unfinished{number, command.opcode, results});
  }

  void Give() {
    if (unfinished_.empty()) throw std::runtime_error("the engine sent a result that no command asked for");
    if (--unfinished_.front().results == 0) unfinished_.pop_front();
  }

  bool ended() const { return halted_ && unfinished_.empty(); }
  bool idle() const { return unfinished_.empty(); }
  uint8_t opcode() const { return unfinished_.front().opcode; }  // of the oldest unfinished command
  // Its number in the launch, or that of the next one to come.
  uint64_t number() const { return idle() ? commands_ : unfinished_.front().number; }
  uint64_t commands() const { return commands_; }

 private:
  struct Unfinished {
    uint64_t number;
    uint8_t opcode;
    uint64_t results;
  };
  std::deque<Unfinished> unfinished_;
  uint64_t commands_ = 0;
  bool halted_ = false;
};

}  // namespace bertile
