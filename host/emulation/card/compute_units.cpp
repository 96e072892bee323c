#include "compute_units.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "card_log.hpp"
#include "run_folder.hpp"

namespace bertile {

namespace {

// The control register.
const uint32_t kStart = 1 << 0;
const uint32_t kDone = 1 << 1;
const uint32_t kIdle = 1 << 2;
const uint32_t kReady = 1 << 3;
const uint32_t kContinue = 1 << 4;

const uint64_t kPageBytes = 4096;

template <typename Function>
Function* Symbol(void* library, const char* name) {
  void* const symbol = dlsym(library, name);
  if (!symbol) throw std::runtime_error(std::string("the xclbin is not for this card: no ") + name + " in its kernels");
  return reinterpret_cast<Function*>(symbol);
}

void* Load(const std::string& file) {
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error(std::string("the kernels in the xclbin cannot be loaded: ") + dlerror());
  return library;
}

}  // namespace

KernelLibrary::KernelLibrary(const std::string& file) {
  void* const library = Load(file);  // stays: a unit may hang in it
  card = Symbol<decltype(bertile_card)>(library, "bertile_card");
  open = Symbol<decltype(bertile_card_open)>(library, "bertile_card_open");
  close = Symbol<decltype(bertile_card_close)>(library, "bertile_card_close");
  launch = Symbol<decltype(bertile_card_launch)>(library, "bertile_card_launch");
  if (card()->version != kBertileCardVersion) {
    throw std::runtime_error("the xclbin is for another version of the emulated card; build both again");
  }
}

ComputeUnit::ComputeUnit(const KernelLibrary& library, const BertileCardUnit& unit, AddressRange bank,
                         const DeviceMemory& memory, const InjectedFaults& faults, Completion& completion)
    : library_(library), unit_(unit), bank_(bank), memory_(memory), faults_(faults), completion_(completion) {
  thread_ = std::thread([this] { Serve(); });
}

// Only of an idle unit.
ComputeUnit::~ComputeUnit() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  start_.notify_one();
  thread_.join();
  if (kernel_) library_.close(kernel_);
}

bool ComputeUnit::Has(uint64_t address) const { return address - unit_.base_address < kUnitBytes; }

void ComputeUnit::Write(uint64_t address, const uint8_t* data, uint64_t bytes) {
  const uint64_t first = (address - unit_.base_address) / 4;
  uint32_t control = 0;
  for (uint64_t i = 0; i < bytes / 4; ++i) {
    uint32_t value;
    std::memcpy(&value, data + 4 * i, sizeof(value));
    if (first + i == 0) {
      control = value;
    } else if (first + i < kRegisterBytes / 4) {
      registers_[first + i] = value;
    }
  }
  Control(control);  // a start sees the arguments of the same message
}

uint32_t ComputeUnit::Read(uint64_t address) {
  const uint64_t word = (address - unit_.base_address) / 4;
  if (word != 0) return word < kRegisterBytes / 4 ? registers_[word] : 0;
  std::lock_guard<std::mutex> lock(mutex_);
  if (busy_.load()) return kStart;
  return kIdle | (done_ ? kDone | kReady : 0);
}

void ComputeUnit::Control(uint32_t value) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (value & kContinue) done_ = false;
  if (!(value & kStart) || busy_.load()) return;
  done_ = false;
  busy_.store(true);
  start_.notify_one();
}

void ComputeUnit::Serve() {
  pthread_setname_np(pthread_self(), unit_.name);  // its threads inherit the name: a fault is told by it
  if (!kernel_) kernel_ = library_.open(uint32_t(&unit_ - library_.card()->unit));
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    start_.wait(lock, [this] { return stopping_ || busy_.load(); });
    if (stopping_) return;
    lock.unlock();
    const std::string why = Launch();
    if (!why.empty()) {
      LogCard(std::string(unit_.name) + " hangs: " + why);
      for (;;) pause();
    }
    lock.lock();
    done_ = true;
    busy_.store(false);
    std::lock_guard<std::mutex> guard(completion_.mutex);
    completion_.changed.notify_all();
  }
}

std::string ComputeUnit::Launch() {
  if (faults_.slow_milliseconds) std::this_thread::sleep_for(std::chrono::milliseconds(faults_.slow_milliseconds));
  if (++launches_ == faults_.hang_launch && faults_.hang == unit_.name) return "as BERTILE_EMU_FAULT says";
  const BertileCard& card = *library_.card();
  std::vector<void*> arguments;
  for (uint32_t i = 0; i < card.arguments; ++i) {
    arguments.push_back(memory_.KernelPointer(AddressOf(card.argument[i])));
  }
  char error[4096];
  return library_.launch(kernel_, arguments.data(), error, sizeof(error)) ? error : "";
}

// The interconnect leads from a unit to its own memory bank alone.
uint64_t ComputeUnit::AddressOf(const BertileCardArgument& argument) const {
  if (faults_.crash == unit_.name) return bank_.end - kPageBytes;
  uint64_t address;
  std::memcpy(&address, &registers_[argument.offset / 4], sizeof(address));
  if (address >= bank_.begin && address < bank_.end) return address;
  char line[256];
  typedef unsigned long long Printed;
  std::snprintf(line, sizeof(line),
                "card lost: %s cannot reach %s at device address 0x%llx: its memory is 0x%llx to 0x%llx", unit_.name,
                argument.name, Printed(address), Printed(bank_.begin), Printed(bank_.end - 1));
  LogCard(line);
  _exit(kCardFaulted);
}

}  // namespace bertile
