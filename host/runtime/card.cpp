#include "card.hpp"

#include <experimental/xrt_system.h>

#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "errors.hpp"

namespace bertile {

namespace {

std::string Megabytes(size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", double(bytes) / 1e6);
  return text;
}

}  // namespace

unsigned CountCards() {
  return During("looking for cards", [] { return xrt::system::enumerate_devices(); });
}

Card::Card(unsigned index, const std::string& xclbin_file) {
  xclbin_ = During("reading " + xclbin_file, [&] { return xrt::xclbin(xclbin_file); });
  const std::string card = "card " + std::to_string(index);
  device_ = During("opening " + card, [&] { return xrt::device(index); });
  name_ = During("reading the name of " + card, [&] { return device_.get_info<xrt::info::device::name>(); });
  address_ = During("reading the address of " + card, [&] { return device_.get_info<xrt::info::device::bdf>(); });
  uuid_ = During("loading " + xclbin_file, [&] { return device_.load_xclbin(xclbin_); });
}

void Card::Close() { device_ = xrt::device(); }

std::vector<std::string> Card::Instances(const std::string& kernel) const {
  std::vector<std::string> names;
  for (const auto& candidate : xclbin_.get_kernels()) {
    if (candidate.get_name() != kernel) continue;
    for (const auto& unit : candidate.get_cus()) {
      const std::string full = unit.get_name();  // kernel:instance
      names.push_back(full.substr(full.find(':') + 1));
    }
  }
  return names;
}

std::vector<std::string> Card::Arguments(const std::string& kernel) const {
  std::vector<std::string> names;
  for (const auto& candidate : xclbin_.get_kernels()) {
    if (candidate.get_name() != kernel) continue;
    for (const auto& argument : candidate.get_args()) names.push_back(argument.get_name());
  }
  return names;
}

Unit::Unit(std::shared_ptr<Card> card, const std::string& kernel, const std::string& instance)
    : card_(std::move(card)), instance_(instance) {
  kernel_ = During("opening " + instance, [&] {
    return xrt::kernel(card_->device(), card_->uuid(), kernel + ":{" + instance + "}",
                       xrt::kernel::cu_access_mode::exclusive);
  });
}

void Unit::Close() {
  for (xrt::bo& image : images_) image = xrt::bo();
  kernel_ = xrt::kernel();
}

xrt::bo Unit::Allocate(EncoderArgument argument, size_t bytes) {
  return During("allocating " + Megabytes(bytes) + " for " + instance_,
                [&] { return xrt::bo(card_->device(), bytes, kernel_.group_id(argument)); });
}

void Unit::Load(EncoderArgument argument, const uint8_t* data, size_t bytes) {
  images_[argument] = xrt::bo();
  xrt::bo image = Allocate(argument, bytes);
  During("copying the model to " + instance_, [&] {
    std::memcpy(image.map<uint8_t*>(), data, bytes);
    image.sync(XCL_BO_SYNC_BO_TO_DEVICE);
  });
  images_[argument] = image;
}

// Outlives the slot: XRT may call back when the slot is gone.
struct Slot::Completion {
  std::mutex mutex;
  std::condition_variable changed;
  bool ended = false;
  ert_cmd_state state = ERT_CMD_STATE_NEW;
  Clock::time_point time;

  void Begin() {
    std::lock_guard<std::mutex> lock(mutex);
    ended = false;
  }
  void End(ert_cmd_state end_state) {
    std::lock_guard<std::mutex> lock(mutex);
    ended = true;
    state = end_state;
    time = Clock::now();
    changed.notify_all();
  }
};

Slot::Slot(std::shared_ptr<Unit> unit, size_t input_bytes, size_t output_bytes)
    : unit_(std::move(unit)),
      input_bytes_(input_bytes),
      output_bytes_(output_bytes),
      completion_(std::make_shared<Completion>()) {
  request_ = unit_->Allocate(kInputWords, kHeaderBytes + input_bytes);
  answer_ = unit_->Allocate(kOutputWords, kHeaderBytes + output_bytes);
  During("preparing launches on " + unit_->instance(), [&] {
    request_map_ = request_.map<uint8_t*>();
    answer_map_ = answer_.map<uint8_t*>();
    table_bo_ = xrt::bo(request_, kHeaderBytes, 0);
    input_bo_ = xrt::bo(request_, input_bytes, kHeaderBytes);
    status_bo_ = xrt::bo(answer_, kHeaderBytes, 0);
    output_bo_ = xrt::bo(answer_, output_bytes, kHeaderBytes);
    run_ = xrt::run(unit_->kernel());
    for (const EncoderArgument image : {kProgram, kWeights, kParameters}) run_.set_arg(image, unit_->image(image));
    run_.set_arg(kLaunch, table_bo_);
    run_.set_arg(kInputWords, input_bo_);
    run_.set_arg(kOutputWords, output_bo_);
    run_.set_arg(kStatus, status_bo_);
    // Not `run_.wait`: the end is noted when it comes, not when somebody asks.
    const std::shared_ptr<Completion> completion = completion_;
    run_.add_callback(
        ERT_CMD_STATE_COMPLETED, [completion](const void*, ert_cmd_state state, void*) { completion->End(state); },
        nullptr);
    ClearStatus();
  });
}

void Slot::Close() {
  run_ = xrt::run();
  for (xrt::bo* part : {&table_bo_, &input_bo_, &status_bo_, &output_bo_, &request_, &answer_}) *part = xrt::bo();
  request_map_ = answer_map_ = nullptr;
}

void Slot::ClearStatus() {
  std::memset(status(), 0, kStatusBytes);
  answer_.sync(XCL_BO_SYNC_BO_TO_DEVICE, kStatusBytes, 0);
}

void Slot::Send(size_t input_bytes) {
  During("sending a request to " + unit_->instance(),
         [&] { request_.sync(XCL_BO_SYNC_BO_TO_DEVICE, kHeaderBytes + input_bytes, 0); });
}

void Slot::Start() {
  completion_->Begin();
  started_ = Clock::now();
  During("starting " + unit_->instance(), [&] { run_.start(); });
}

bool Slot::Wait(double seconds) {
  std::unique_lock<std::mutex> lock(completion_->mutex);
  completion_->changed.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return completion_->ended; });
  if (completion_->ended && completion_->state != ERT_CMD_STATE_COMPLETED) {
    throw CardError(unit_->instance() + " failed: XRT command state " + std::to_string(int(completion_->state)));
  }
  return completion_->ended;
}

void Slot::Fetch(size_t output_bytes) {
  During("fetching an answer from " + unit_->instance(),
         [&] { answer_.sync(XCL_BO_SYNC_BO_FROM_DEVICE, kHeaderBytes + output_bytes, 0); });
}

double Slot::run_seconds() const {
  std::lock_guard<std::mutex> lock(completion_->mutex);
  return std::chrono::duration<double>(completion_->time - started_).count();
}

}  // namespace bertile
