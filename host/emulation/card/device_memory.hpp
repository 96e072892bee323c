// The card's DDR as kernels see it: device addresses from 0, one range of this process's memory. What no buffer has is
// out of bounds, so a kernel that reads or writes there faults.
#pragma once

#include <cstdint>
#include <map>

namespace bertile {

class DeviceMemory {
 public:
  DeviceMemory();
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // A host gives out addresses: page by page, never twice. False when there is no memory.
  bool Allocate(uint64_t address, uint64_t bytes);
  void Free(uint64_t address);
  void FreeAll();

  // Where a range is that lies in one buffer; null for another.
  uint8_t* Find(uint64_t address, uint64_t bytes) const;
  // Where a kernel finds an address, whatever is there; null beyond all that a kernel could reach.
  void* KernelPointer(uint64_t address) const;
  bool IsDeviceAddress(const void* pointer, uint64_t& address) const;

 private:
  uint8_t* const base_;
  std::map<uint64_t, uint64_t> buffers_;  // bytes by address
};

}  // namespace bertile
