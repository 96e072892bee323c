#include "device_memory.hpp"

#include <sys/mman.h>

#include <stdexcept>

namespace bertile {

namespace {

const uint64_t kReservedBytes = uint64_t(1) << 41;
// Device addresses that are given to kernels. Behind them nothing is mapped as far as a kernel's 32-bit counts of
// 64-byte beats reach.
const uint64_t kAddressedBytes = uint64_t(1) << 40;
const uint64_t kPageBytes = 4096;

uint64_t WholePages(uint64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

uint8_t* Reserve() {
  void* const base = mmap(nullptr, kReservedBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw std::runtime_error("no address space for the card's memory");
  return static_cast<uint8_t*>(base);
}

}  // namespace

DeviceMemory::DeviceMemory() : base_(Reserve()) {}

DeviceMemory::~DeviceMemory() { munmap(base_, kReservedBytes); }

bool DeviceMemory::Allocate(uint64_t address, uint64_t bytes) {
  const uint64_t length = WholePages(bytes);
  if (address % kPageBytes || address >= kAddressedBytes || length > kAddressedBytes - address) return false;
  if (mprotect(base_ + address, length, PROT_READ | PROT_WRITE)) return false;
  buffers_[address] = length;
  return true;
}

void DeviceMemory::Free(uint64_t address) {
  const auto buffer = buffers_.find(address);
  if (buffer == buffers_.end()) return;
  // A new mapping gives the pages back.
  mmap(base_ + address, buffer->second, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  buffers_.erase(buffer);
}

void DeviceMemory::FreeAll() {
  while (!buffers_.empty()) Free(buffers_.begin()->first);
}

uint8_t* DeviceMemory::Find(uint64_t address, uint64_t bytes) const {
  auto buffer = buffers_.upper_bound(address);
  if (buffer == buffers_.begin()) return nullptr;
  --buffer;
  const uint64_t offset = address - buffer->first;
  return offset <= buffer->second && bytes <= buffer->second - offset ? base_ + address : nullptr;
}

void* DeviceMemory::KernelPointer(uint64_t address) const {
  return address < kAddressedBytes ? base_ + address : nullptr;
}

bool DeviceMemory::IsDeviceAddress(const void* pointer, uint64_t& address) const {
  address = uint64_t(static_cast<const uint8_t*>(pointer) - base_);
  return address < kReservedBytes;
}

}  // namespace bertile
