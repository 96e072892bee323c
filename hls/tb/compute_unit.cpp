#include "compute_unit.hpp"

#include <unistd.h>

#include <deque>
#include <memory>

namespace bertile {

namespace {

// Pass words on when the engine waits for one, never before.
void HoldWords(Stream<Beat>& from_encoder, Stream<Beat>& to_engine, const std::atomic<bool>& encoder_done,
               const std::atomic<bool>& engine_done) {
  std::deque<Beat> held;
  while (!Simulation::Current()->stopped()) {
    const bool last = encoder_done.load();
    Beat word;
    while (from_encoder.read_nb(word)) held.push_back(word);
    if (last && held.empty()) return;
    if (engine_done.load() && !held.empty()) throw std::runtime_error("the engine did not await all words");
    if (!held.empty() && to_engine.empty() && to_engine.reader_waits()) {
      to_engine.write(held.front());
      held.pop_front();
    } else {
      usleep(1);
    }
  }
}

const int kPeers = kCooperationUnits - 1;

// A stream's name in the words of the watchdog: "unit 2 engine_words".
struct Label {
  Label(size_t unit, const char* stream, const char* suffix = "")
      : text("unit " + std::to_string(unit + 1) + " " + stream + suffix) {}
  operator const char*() const { return text.c_str(); }
  std::string text;
};

// What comes from one peer, and what takes its place where a unit is alone: nothing may come out of that.
struct PeerLinks {
  PeerLinks(size_t unit, const char* suffix)
      : words_from(Label(unit, "words_from", suffix)),
        moments_from(Label(unit, "moments_from", suffix)),
        words_to(Label(unit, "words_to", suffix)),
        moments_to(Label(unit, "moments_to", suffix)) {}

  Stream<Beat, kStreamWordsFrom> words_from;
  Stream<Beat, kStreamMomentsFrom> moments_from;
  Stream<Beat, 1> words_to;
  Stream<Beat, 1> moments_to;
};

// The streams into the kernels of a unit.
struct Links {
  explicit Links(size_t unit)
      : commands(Label(unit, "engine_commands")),
        tiles(Label(unit, "engine_tiles")),
        words(Label(unit, "engine_words")),
        results(Label(unit, "engine_results")),
        peer_0(unit, "_0"),
        peer_1(unit, "_1") {}

  PeerLinks& peer(int number) { return number == 0 ? peer_0 : peer_1; }

  Stream<Beat, kStreamCommands> commands;
  Stream<Beat, kStreamTiles> tiles;
  Stream<Beat, kStreamWords> words;
  Stream<WideWord, kStreamResults> results;
  PeerLinks peer_0;
  PeerLinks peer_1;
};

// All units, and who is whose peer (spec, cooperation).
class Units {
 public:
  explicit Units(const std::vector<ComputeUnitMemory>& memory) : memory_(memory) {
    if (memory.size() != 1 && memory.size() != kCooperationUnits) {
      throw std::runtime_error("one unit runs alone, or " + std::to_string(kCooperationUnits) + " together");
    }
    for (size_t unit = 0; unit < memory.size(); ++unit) links_.emplace_back(new Links(unit));
  }

  size_t size() const { return links_.size(); }
  Links& links(size_t unit) { return *links_[unit]; }

  void RunEncoder(size_t unit) {
    const ComputeUnitMemory& memory = memory_[unit];
    Links& own = links(unit);
    bertile_encoder(memory.program, memory.weights, memory.parameters, memory.launch, memory.input, memory.output,
                    memory.status, own.commands, own.tiles, own.words, own.results, WordsTo(unit, 0),
                    WordsTo(unit, 1), MomentsTo(unit, 0), MomentsTo(unit, 1), own.peer_0.moments_from,
                    own.peer_1.moments_from);
  }

 private:
  Stream<Beat>& WordsTo(size_t unit, int peer) {
    if (size() == 1) return links(unit).peer(peer).words_to;
    return links((unit + 1 + peer) % size()).peer(kPeers - 1 - peer).words_from;
  }
  Stream<Beat>& MomentsTo(size_t unit, int peer) {
    if (size() == 1) return links(unit).peer(peer).moments_to;
    return links((unit + 1 + peer) % size()).peer(kPeers - 1 - peer).moments_from;
  }

  const std::vector<ComputeUnitMemory>& memory_;
  std::vector<std::unique_ptr<Links>> links_;
};

EngineStreams StreamsOf(Links& links) {
  return {links.commands,          links.tiles,   links.words, links.peer_0.words_from,
          links.peer_1.words_from, links.results};
}

// Streams into an engine that hold words back, and the threads that do.
struct LateWords {
  LateWords(Links& links, const std::atomic<bool>& encoders_done, Dataflow& kernels)
      : words("late engine_words"), from_0("late words_from_0"), from_1("late words_from_1") {
    Stream<Beat>* const sources[] = {&links.words, &links.peer_0.words_from, &links.peer_1.words_from};
    Stream<Beat>* const targets[] = {&words, &from_0, &from_1};
    for (int i = 0; i < 1 + kPeers; ++i) {
      Stream<Beat>& source = *sources[i];
      Stream<Beat>& target = *targets[i];
      kernels.Launch("HoldWords", [&source, &target, &encoders_done, this] {
        HoldWords(source, target, encoders_done, engine_done);
      });
    }
  }
  EngineStreams StreamsOf(Links& links) { return {links.commands, links.tiles, words, from_0, from_1, links.results}; }

  std::atomic<bool> engine_done{false};
  Stream<Beat, kStreamWords> words;
  Stream<Beat, kStreamWords> from_0;
  Stream<Beat, kStreamWords> from_1;
};

}  // namespace

std::string RunComputeUnits(const std::vector<ComputeUnitMemory>& memory, const Engine& engine, WordTiming timing,
                            double deadlock_seconds) {
  Simulation simulation(deadlock_seconds);
  {
    Units units(memory);
    std::atomic<size_t> encoders_left(units.size());
    std::atomic<bool> encoders_done(false);
    std::vector<std::unique_ptr<LateWords>> late;
    Dataflow kernels;
    for (size_t unit = 0; unit < units.size(); ++unit) {
      Links& links = units.links(unit);
      kernels.Launch("bertile_encoder", [&, unit] {
        units.RunEncoder(unit);
        if (--encoders_left == 0) encoders_done.store(true);
      });
      if (timing == WordTiming::kEarly) {
        kernels.Launch("bertile_engine", [&] { engine(StreamsOf(links)); });
        continue;
      }
      late.emplace_back(new LateWords(links, encoders_done, kernels));
      LateWords& held = *late.back();
      kernels.Launch("bertile_engine", [&] {
        engine(held.StreamsOf(links));
        held.engine_done.store(true);
      });
    }
    kernels.Join();
  }
  return simulation.error();
}

std::string RunTimedComputeUnits(const std::vector<ComputeUnitMemory>& memory, const ClockedEngines& engines,
                                 const TimingModel& timing, uint64_t peer_crossing, double deadlock_seconds,
                                 uint64_t& cycles) {
  Simulation simulation(deadlock_seconds, &timing);
  {
    Units units(memory);
    std::vector<EngineStreams> streams;
    Dataflow kernels;
    for (size_t unit = 0; unit < units.size(); ++unit) {
      Links& links = units.links(unit);
      for (int peer = 0; peer < kPeers; ++peer) links.peer(peer).moments_from.SetCrossing(peer_crossing);
      streams.push_back(StreamsOf(links));
    }
    for (size_t unit = 0; unit < units.size(); ++unit) {
      kernels.Launch("bertile_encoder", [&, unit] { units.RunEncoder(unit); });
    }
    kernels.Launch("bertile_engine", [&] { engines(streams); });
    kernels.Join();
    cycles = kernels.last_cycle();
  }
  return simulation.error();
}

}  // namespace bertile
