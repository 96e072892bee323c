// The Verilated model of the engine and its waves: the only file that knows Verilator.
#pragma once

#include <verilated.h>
#if VM_TRACE
#include <verilated_fst_c.h>
#endif

#include <cstring>
#include <memory>
#include <string>

#include "Vbertile_engine.h"

namespace bertile {

class RtlModel {
 public:
  static const int kDataBytes = 64;
  static const int kResetCycles = 16;

  RtlModel() : context_(new VerilatedContext), top_(Make(context_.get())) {
    top_->ap_rst_n = 0;
    for (int i = 0; i < kResetCycles; ++i) {
      Fall();
      Rise();
    }
    top_->ap_rst_n = 1;
  }
  ~RtlModel() {
    CloseWaves();
    top_->final();
  }

  Vbertile_engine& ports() { return *top_; }

  // The two halves of a cycle. Inputs are set before the clock falls; valid and ready hold when it has fallen.
  void Fall() { Half(0); }
  void Rise() { Half(1); }

  void OpenWaves(const std::string& file, uint64_t period_picoseconds) {
    half_period_ = period_picoseconds / 2;
#if VM_TRACE
    waves_.reset(new VerilatedFstC);
    top_->trace(waves_.get(), 99);
    waves_->open(file.c_str());
    if (!waves_->isOpen()) throw std::runtime_error("cannot write " + file);
#else
    throw std::runtime_error("this library writes no waves: " + file);
#endif
  }
  void CloseWaves() {
#if VM_TRACE
    if (waves_) waves_->close();
    waves_.reset();
#endif
  }
  void RecordWaves(bool records) { records_ = records; }

 private:
  static Vbertile_engine* Make(VerilatedContext* context) {
#if VM_TRACE
    context->traceEverOn(true);
#endif
    return new Vbertile_engine(context);
  }

  void Half(int clock) {
    top_->ap_clk = uint8_t(clock);
    top_->eval();
    context_->timeInc(half_period_);
#if VM_TRACE
    if (waves_ && records_) waves_->dump(context_->time());
#endif
  }

  const std::unique_ptr<VerilatedContext> context_;
  const std::unique_ptr<Vbertile_engine> top_;
  uint64_t half_period_ = 1;
  bool records_ = false;
#if VM_TRACE
  std::unique_ptr<VerilatedFstC> waves_;
#endif
};

}  // namespace bertile
