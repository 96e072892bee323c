#include "rtl_engine.hpp"

#include "clocked.hpp"
#include "launch_tracker.hpp"
#include "rtl_model.hpp"

namespace bertile {

namespace {

// A pass has at most 1,024 cycles, and nothing else the engine does for itself takes longer.
const uint64_t kStandstillCycles = 50000;

static_assert(sizeof(Beat) == RtlModel::kDataBytes && sizeof(WideWord) == RtlModel::kDataBytes,
              "bytes and lanes lie in the bits of a port in their order");

// A stream into the model.
struct ModelInput {
  ModelInput(Stream<Beat>& stream, const EngineLink& link, uint8_t& valid_port, const uint8_t& ready_port,
             uint32_t* data_port, const char* label)
      : words(stream, link.crossing), valid(valid_port), ready(ready_port), data(data_port), name(label) {}

  void Offer(uint64_t now) {
    valid = words.Valid(now);
    if (valid) std::memcpy(data, &words.Head(), sizeof(Beat));
  }
  bool Taken() const { return valid && ready; }

  ClockedInput<Beat> words;
  uint8_t& valid;
  const uint8_t& ready;
  uint32_t* const data;
  const char* const name;
};

// A launch on the model.
class Stage {
 public:
  Stage(RtlModel& model, Stream<Beat>& commands, Stream<Beat>& tiles, Stream<Beat>& words, Stream<WideWord>& results,
        const EngineLink& link, EngineCounts& counts)
      : model_(model),
        ports_(model.ports()),
        commands_(commands, link, ports_.commands_tvalid, ports_.commands_tready, ports_.commands_tdata.data(),
                  "engine_commands"),
        tiles_(tiles, link, ports_.tiles_tvalid, ports_.tiles_tready, ports_.tiles_tdata.data(), "engine_tiles"),
        words_(words, link, ports_.words_tvalid, ports_.words_tready, ports_.words_tdata.data(), "engine_words"),
        results_(results, link.crossing),
        clock_(link.crossing),
        counts_(counts) {}

  const LaunchTracker& launch() const { return launch_; }

  void Cycle() {
    clock_.Begin();
    const uint64_t now = clock_.now();
    for (ModelInput* input : {&commands_, &tiles_, &words_}) input->Offer(now);
    ports_.results_tready = results_.Ready(now);
    model_.Fall();
    CountCycle();
    // Valid and ready of this cycle; the rising edge changes them.
    const bool moves = Transfer(now);
    model_.Rise();
    clock_.End();
    CheckProgress(moves, now);
  }

  void Finish() {
    StageClock::Current()->Reach(clock_.now());
    for (ModelInput* input : {&commands_, &tiles_, &words_}) input->valid = 0;
    ports_.results_tready = 0;
  }

 private:
  void CountCycle() {
    uint64_t* const by_opcode[] = {&counts_.halt, &counts_.gemm, &counts_.scores, &counts_.context};
    ++*(launch_.idle() ? &counts_.idle : by_opcode[launch_.opcode()]);
    if (ports_.results_tvalid && !ports_.results_tready) ++counts_.blocked;
  }

  bool Transfer(uint64_t now) {
    const bool gives = ports_.results_tvalid && ports_.results_tready;
    bool moves = gives;
    for (ModelInput* input : {&commands_, &tiles_, &words_}) moves |= input->Taken();
    if (commands_.Taken()) launch_.Take(DecodeCommand(commands_.words.Head().byte));
    Take(commands_, counts_.commands, now);
    Take(tiles_, counts_.tiles, now);
    Take(words_, counts_.words, now);
    if (gives) Give(now);
    return moves;
  }

  static void Take(ModelInput& input, uint64_t& count, uint64_t now) {
    if (!input.Taken()) return;
    input.words.Take(now);
    ++count;
  }

  void Give(uint64_t now) {
    WideWord word;
    std::memcpy(&word, ports_.results_tdata.data(), sizeof(word));
    results_.Give(word, now);
    launch_.Give();
    ++counts_.results;
  }

  void CheckProgress(bool moves, uint64_t now) {
    bool coming = false;
    for (const ModelInput* input : {&commands_, &tiles_, &words_}) coming |= input->words.Coming(now);
    still_ = moves || coming ? 0 : still_ + 1;
    if (still_ < kStandstillCycles) return;
    std::string waiting = Simulation::Current()->Waiting();
    for (const ModelInput* input : {&commands_, &tiles_, &words_}) {
      if (input->ready && !input->valid) waiting += std::string(", ") + input->name + " (empty)";
    }
    throw std::runtime_error("deadlock in cycle " + std::to_string(now) + ": the engine neither takes nor gives; " +
                             "waiting: " + waiting);
  }

  RtlModel& model_;
  Vbertile_engine& ports_;
  ModelInput commands_;
  ModelInput tiles_;
  ModelInput words_;
  ClockedOutput<WideWord> results_;
  BatchClock clock_;
  LaunchTracker launch_;
  EngineCounts& counts_;
  uint64_t still_ = 0;
};

}  // namespace

RtlEngine::RtlEngine() : model_(new RtlModel) {}
RtlEngine::~RtlEngine() {}

void RtlEngine::Run(Stream<Beat>& commands, Stream<Beat>& tiles, Stream<Beat>& words, Stream<WideWord>& results,
                    const EngineLink& link, const Waves& waves, EngineCounts& counts) {
  counts = EngineCounts();
  if (!waves.file.empty()) model_->OpenWaves(waves.file, link.period_picoseconds);
  Stage stage(*model_, commands, tiles, words, results, link, counts);
  while (!stage.launch().ended()) {
    if (stopped_.load(std::memory_order_relaxed)) throw std::runtime_error("interrupted");
    const uint64_t number = stage.launch().number();
    model_->RecordWaves(number >= waves.first_command && number <= waves.last_command);
    stage.Cycle();
  }
  stage.Finish();
  model_->CloseWaves();
}

}  // namespace bertile

// Instead of ending the process: a failed assertion of the RTL, or $stop.
void vl_stop(const char* file, int line, const char* scope) {
  throw std::runtime_error(std::string(scope) + " stopped (" + file + ", line " + std::to_string(line) + ")");
}

void vl_fatal(const char* file, int line, const char* scope, const char* message) {
  throw std::runtime_error(std::string(scope) + ": " + message + " (" + file + ", line " + std::to_string(line) + ")");
}
