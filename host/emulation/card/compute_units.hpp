// The encoder instances on the card: their registers, as Vitis HLS makes them (ap_ctrl_chain), and a thread each.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "device_memory.hpp"
#include "kernel_library.hpp"
#include "test_settings.hpp"

namespace bertile {

// Kernels of a loaded xclbin.
struct KernelLibrary {
  explicit KernelLibrary(const std::string& file);  // throws std::runtime_error

  decltype(&bertile_card) card;
  decltype(&bertile_card_open) open;
  decltype(&bertile_card_close) close;
  decltype(&bertile_card_launch) launch;
};

// Wakes a reader of control registers when any unit has finished.
struct Completion {
  std::mutex mutex;
  std::condition_variable changed;
};

// Device addresses [begin, end).
struct AddressRange {
  uint64_t begin;
  uint64_t end;
};

class ComputeUnit {
 public:
  // bank: the memory that all of its ports are connected to.
  ComputeUnit(const KernelLibrary& library, const BertileCardUnit& unit, AddressRange bank, const DeviceMemory& memory,
              const InjectedFaults& faults, Completion& completion);
  ~ComputeUnit();
  ComputeUnit(const ComputeUnit&) = delete;
  ComputeUnit& operator=(const ComputeUnit&) = delete;

  bool Has(uint64_t address) const;
  bool busy() const { return busy_.load(); }
  // Addresses are the card's; words of 32 bits. A word that is no register reads 0.
  void Write(uint64_t address, const uint8_t* data, uint64_t bytes);
  uint32_t Read(uint64_t address);

 private:
  static const uint64_t kRegisterBytes = 0x1000;
  static const uint64_t kUnitBytes = 0x10000;

  void Control(uint32_t value);
  void Serve();
  std::string Launch();
  uint64_t AddressOf(const BertileCardArgument& argument) const;

  const KernelLibrary& library_;
  const BertileCardUnit& unit_;
  const AddressRange bank_;
  const DeviceMemory& memory_;
  const InjectedFaults& faults_;
  Completion& completion_;
  void* kernel_ = nullptr;
  uint32_t registers_[kRegisterBytes / 4] = {};  // but for control
  std::atomic<bool> busy_{false};
  uint64_t launches_ = 0;
  bool done_ = false;
  bool stopping_ = false;
  std::mutex mutex_;
  std::condition_variable start_;
  std::thread thread_;
};

}  // namespace bertile
