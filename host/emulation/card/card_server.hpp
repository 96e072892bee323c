// The card's end of the socket: answers one request after the other until the host closes it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compute_units.hpp"
#include "wire.hpp"

namespace bertile {

class CardServer {
 public:
  CardServer(int socket, const InjectedFaults& faults) : socket_(socket), faults_(faults) {}

  // True when the host has closed the card, false when it has gone without. Throws std::runtime_error.
  bool Serve();
  const DeviceMemory& memory() const { return memory_; }

 private:
  bool Receive(void* data, uint64_t bytes);
  bool SendBytes(const void* data, uint64_t bytes);
  bool Send(const std::string& message, const void* data = nullptr, uint64_t data_bytes = 0);
  bool Answer(const RequestHeader& header);
  bool CopyIn(uint64_t message_bytes);
  bool Discard(uint64_t bytes);
  bool CopyOut(uint64_t address, uint64_t bytes);
  bool Load(const std::string& file);
  void WriteRegisters(uint64_t address, const std::string& data);
  std::string ReadRegisters(uint64_t address, uint64_t bytes);
  ComputeUnit* UnitAt(uint64_t address);
  void AwaitUnit(const ComputeUnit& unit);

  const int socket_;
  const InjectedFaults faults_;
  DeviceMemory memory_;
  Completion completion_;
  std::unique_ptr<KernelLibrary> library_;
  std::vector<std::unique_ptr<ComputeUnit>> units_;
  std::vector<uint8_t> message_;
};

}  // namespace bertile
