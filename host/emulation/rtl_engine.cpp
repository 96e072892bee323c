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
  ModelInput(Stream<Beat>& stream, uint64_t crossing, uint8_t& valid_port, const uint8_t& ready_port,
             uint32_t* data_port, const char* label)
      : words(stream, crossing), valid(valid_port), ready(ready_port), data(data_port), name(label) {}

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

// A launch on one model. A cycle has two halves, between which all models of the launch have the same time.
class Stage {
 public:
  Stage(RtlModel& model, const EngineStreams& streams, const EngineLink& link, EngineCounts& counts)
      : model_(model),
        ports_(model.ports()),
        commands_(streams.commands, link.crossing, ports_.commands_tvalid, ports_.commands_tready,
                  ports_.commands_tdata.data(), "engine_commands"),
        tiles_(streams.tiles, link.crossing, ports_.tiles_tvalid, ports_.tiles_tready, ports_.tiles_tdata.data(),
               "engine_tiles"),
        words_(streams.words, link.crossing, ports_.words_tvalid, ports_.words_tready, ports_.words_tdata.data(),
               "engine_words"),
        from_0_(streams.words_from_0, link.peer_crossing, ports_.words_from_0_tvalid, ports_.words_from_0_tready,
                ports_.words_from_0_tdata.data(), "words_from_0"),
        from_1_(streams.words_from_1, link.peer_crossing, ports_.words_from_1_tvalid, ports_.words_from_1_tready,
                ports_.words_from_1_tdata.data(), "words_from_1"),
        results_(streams.results, link.crossing),
        counts_(counts) {
    counts = EngineCounts();
  }

  const LaunchTracker& launch() const { return launch_; }
  RtlModel& model() { return model_; }

  // Whether anything moved.
  bool Cycle(uint64_t now) {
    for (ModelInput* input : inputs_) input->Offer(now);
    ports_.results_tready = results_.Ready(now);
    model_.Fall();
    CountCycle();
    // Valid and ready of this cycle; the rising edge changes them.
    const bool moves = Transfer(now);
    model_.Rise();
    return moves;
  }

  bool Coming(uint64_t now) const {
    bool coming = false;
    for (const ModelInput* input : inputs_) coming |= input->words.Coming(now);
    return coming;
  }

  std::string Waiting() const {
    std::string waiting;
    for (const ModelInput* input : inputs_) {
      if (input->ready && !input->valid) waiting += std::string(", ") + input->name + " (empty)";
    }
    return waiting;
  }

  void Finish() {
    for (ModelInput* input : inputs_) input->valid = 0;
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
    for (ModelInput* input : inputs_) moves |= input->Taken();
    if (commands_.Taken()) launch_.Take(DecodeCommand(commands_.words.Head().byte));
    Take(commands_, counts_.commands, now);
    Take(tiles_, counts_.tiles, now);
    Take(words_, counts_.words, now);
    Take(from_0_, counts_.words_from_0, now);
    Take(from_1_, counts_.words_from_1, now);
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

  RtlModel& model_;
  Vbertile_engine& ports_;
  ModelInput commands_;
  ModelInput tiles_;
  ModelInput words_;
  ModelInput from_0_;
  ModelInput from_1_;
  ModelInput* const inputs_[5] = {&commands_, &tiles_, &words_, &from_0_, &from_1_};
  ClockedOutput<WideWord> results_;
  LaunchTracker launch_;
  EngineCounts& counts_;
};

// "waves.fst", "waves.unit2.fst" ...
std::string WavesFile(const std::string& file, size_t unit) {
  const size_t point = file.rfind('.');
  if (unit == 0 || file.empty()) return file;
  const std::string suffix = ".unit" + std::to_string(unit + 1);
  return point == std::string::npos ? file + suffix : file.substr(0, point) + suffix + file.substr(point);
}

}  // namespace

RtlEngine::RtlEngine() : model_(new RtlModel) {}
RtlEngine::~RtlEngine() {}

void RunEngines(const std::vector<RtlEngine*>& engines, const std::vector<EngineStreams>& streams,
                const EngineLink& link, const Waves& waves, EngineCounts* counts) {
  std::vector<std::unique_ptr<Stage>> stages;
  for (size_t unit = 0; unit < engines.size(); ++unit) {
    RtlModel& model = engines[unit]->model();
    if (!waves.file.empty()) model.OpenWaves(WavesFile(waves.file, unit), link.period_picoseconds);
    stages.emplace_back(new Stage(model, streams[unit], link, counts[unit]));
  }
  BatchClock clock(link.crossing);
  uint64_t still = 0;
  for (size_t running = engines.size(); running > 0;) {
    clock.Begin();
    bool moves = false;
    for (size_t unit = 0; unit < engines.size(); ++unit) {
      Stage& stage = *stages[unit];
      if (stage.launch().ended()) continue;
      if (engines[unit]->stopped()) throw std::runtime_error("interrupted");
      const uint64_t number = stage.launch().number();
      stage.model().RecordWaves(number >= waves.first_command && number <= waves.last_command);
      moves |= stage.Cycle(clock.now()) || stage.Coming(clock.now());
      if (!stage.launch().ended()) continue;
      stage.Finish();
      --running;
    }
    still = moves ? 0 : still + 1;
    if (still >= kStandstillCycles) {
      std::string waiting = Simulation::Current()->Waiting();
      for (const auto& stage : stages) waiting += stage->launch().ended() ? "" : stage->Waiting();
      throw std::runtime_error("deadlock in cycle " + std::to_string(clock.now()) +
                               ": the engine neither takes nor gives; waiting: " + waiting);
    }
    clock.End();
  }
  StageClock::Current()->Reach(clock.now());
  for (const auto& stage : stages) stage->model().CloseWaves();
}

}  // namespace bertile

// Instead of ending the process: a failed assertion of the RTL, or $stop.
void vl_stop(const char* file, int line, const char* scope) {
  throw std::runtime_error(std::string(scope) + " stopped (" + file + ", line " + std::to_string(line) + ")");
}

void vl_fatal(const char* file, int line, const char* scope, const char* message) {
  throw std::runtime_error(std::string(scope) + ": " + message + " (" + file + ", line " + std::to_string(line) + ")");
}
