// The card as the host sees it: compute units, the images of a model, and launches; a thin layer over XRT's native API.
// The same code drives the emulated card and the board.
#pragma once

#include <xrt/xrt_bo.h>
#include <xrt/xrt_device.h>
#include <xrt/xrt_kernel.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bertile_spec.hpp"

namespace bertile {

// Boards in this machine; XRT does not count an emulated card.
unsigned CountCards();

// An xclbin on a card.
class Card {
 public:
  // Throws CardError when there is no card of that index, or the file does not fit it.
  Card(unsigned index, const std::string& xclbin_file);

  const std::string& name() const { return name_; }
  const std::string& address() const { return address_; }  // on the PCIe bus
  void Close();  // after its units
  // Instances of a kernel, in the order of the xclbin; none if there is no such kernel.
  std::vector<std::string> Instances(const std::string& kernel) const;
  // Names of a kernel's arguments in their order.
  std::vector<std::string> Arguments(const std::string& kernel) const;

  xrt::device& device() { return device_; }
  const xrt::uuid& uuid() const { return uuid_; }

 private:
  xrt::xclbin xclbin_;
  xrt::device device_;
  xrt::uuid uuid_;
  std::string name_;
  std::string address_;
};

// Positions of the encoder kernel's arguments (spec/kernels.toml; a test compares).
enum EncoderArgument { kProgram, kWeights, kParameters, kLaunch, kInputWords, kOutputWords, kStatus };

// One instance of the encoder kernel, for this process alone, and the images of the model it runs.
class Unit {
 public:
  Unit(std::shared_ptr<Card> card, const std::string& kernel, const std::string& instance);

  void Close();  // after its slots
  // Copies an image (kProgram, kWeights or kParameters) to the unit's memory bank; one that was there is freed.
  void Load(EncoderArgument argument, const uint8_t* data, size_t bytes);

  const std::string& instance() const { return instance_; }
  xrt::kernel& kernel() { return kernel_; }
  xrt::bo Allocate(EncoderArgument argument, size_t bytes);
  const xrt::bo& image(EncoderArgument argument) const { return images_[argument]; }

 private:
  const std::shared_ptr<Card> card_;
  const std::string instance_;
  xrt::kernel kernel_;
  xrt::bo images_[kParameters + 1];
};

// The buffers of one launch, mapped into the host's memory, and its run. A unit may have several, which it runs one
// after the other.
class Slot {
 public:
  typedef std::chrono::steady_clock Clock;

  // The unit must have its images. Bytes are of the largest launch.
  Slot(std::shared_ptr<Unit> unit, size_t input_bytes, size_t output_bytes);
  void Close();  // frees the buffers: their memory is not to be touched again

  uint8_t* table() { return request_map_; }
  uint8_t* input() { return request_map_ + kHeaderBytes; }
  uint8_t* status() { return answer_map_; }
  uint8_t* output() { return answer_map_ + kHeaderBytes; }
  size_t input_bytes() const { return input_bytes_; }
  size_t output_bytes() const { return output_bytes_; }

  void Send(size_t input_bytes);  // launch table and input to the card
  void Start();
  bool Wait(double seconds);      // whether the run has ended; throws CardError when XRT says that it failed
  void Fetch(size_t output_bytes);  // status and output from the card
  // Writes zeros where the next run leaves its status, so that one that leaves none is noticed. When nobody waits.
  void ClearStatus();
  double run_seconds() const;     // from Start to its end, as the host saw it

  // Launch table and status lie a page before input and output, so that one transfer takes both.
  static constexpr size_t kHeaderBytes = 4096;
  static constexpr size_t kTableBytes = 2 * kPacketBeatBytes;  // header and sequences
  static constexpr size_t kStatusBytes = kPacketBeatBytes;

 private:
  struct Completion;

  const std::shared_ptr<Unit> unit_;
  const size_t input_bytes_;
  const size_t output_bytes_;
  const std::shared_ptr<Completion> completion_;
  xrt::bo request_, answer_;
  xrt::bo table_bo_, input_bo_, status_bo_, output_bo_;  // parts of the two
  uint8_t* request_map_ = nullptr;
  uint8_t* answer_map_ = nullptr;
  xrt::run run_;
  Clock::time_point started_;
};

}  // namespace bertile
