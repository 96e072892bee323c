// Timed simulation: what pipelines, FIFOs, memory and a clocked stage cost is exact, and the same in every run.
#include <sched.h>

#include <algorithm>
#include <deque>

#include "clocked.hpp"
#include "testing.hpp"

using namespace bertile;
using namespace bertile::testing;

namespace {

const int kWords = 1000;
const uint64_t kCrossing = 4;
typedef Stream<int> Numbers;

TimingModel Model() {
  TimingModel model;
  model.latency = {{"Source", 5}, {"Middle", 7}, {"Other", 3}, {"Sink", 1}};
  model.memory_latency = 60;
  model.memory_bytes_per_cycle = 48;
  return model;
}

std::string Timed(const std::function<void()>& body) {
  const TimingModel model = Model();
  return Simulate(body, kDeadlockSeconds, &model);
}

std::string Equal(uint64_t actual, uint64_t expected) {
  Comparison comparison("cycle");
  comparison.Equal(int64_t(actual), int64_t(expected));
  return comparison.Result(1);
}

void Produce(Numbers& out) {
  for (int i = 0; i < kWords; ++i) out.write(i);
}

void Consume(Numbers& in, int cycles) {
  for (int i = 0; i < kWords; ++i) {
    if (in.read() != i) throw std::runtime_error("numbers out of order");
    BERTILE_CYCLES(cycles);
  }
}

// `source` to a sink that spends `cycles` on a word, over a FIFO of `Depth`; the last cycle.
template <int Depth>
std::string TwoStages(const std::function<void(Numbers&)>& source, int cycles, uint64_t expected) {
  uint64_t last = 0;
  const std::string error = Timed([&] {
    Stream<int, Depth> numbers("numbers");
    Dataflow stages;
    stages.Launch("Source", [&] { source(numbers); });
    stages.Launch("Sink", [&] { Consume(numbers, cycles); });
    stages.Join();
    last = stages.last_cycle();
  });
  return First(error, Equal(last, expected));
}

void ReadMemory(Numbers& out) {
  BERTILE_MEMORY_REQUEST();
  for (int i = 0; i < kWords; ++i) {
    BERTILE_MEMORY_TRANSFER(64);
    out.write(i);
  }
}

void DrainEveryTen(Numbers& out) {
  for (int i = 0; i < kWords; ++i) {
    out.write(i);
    if (i % 10 == 9) BERTILE_DRAIN();
  }
}

std::string ThreeStages() {
  uint64_t last = 0;
  const std::string error = Timed([&] {
    Stream<int, 16> there("there"), on("on");
    Dataflow stages;
    stages.Launch("Source", [&] { Produce(there); });
    stages.Launch("Middle", [&] {
      for (int i = 0; i < kWords; ++i) on.write(there.read());
    });
    stages.Launch("Sink", [&] { Consume(on, 0); });
    stages.Join();
    last = stages.last_cycle();
  });
  return First(error, Equal(last, 5 + 7 + kWords - 1));
}

// A stage waits for the later of two words, and the stage of the earlier ones for room.
std::string TwoInputs() {
  uint64_t last = 0, early = 0;
  const std::string error = Timed([&] {
    Stream<int, 16> a("a"), b("b");
    Dataflow stages;
    stages.Launch("Source", [&] {
      Produce(a);
      early = StageClock::Current()->now();
    });
    stages.Launch("Other", [&] {
      BERTILE_CYCLES(100);
      Produce(b);
    });
    stages.Launch("Sink", [&] {
      for (int i = 0; i < kWords; ++i) {
        a.read();
        b.read();
      }
    });
    stages.Join();
    last = stages.last_cycle();
  });
  // Word i of b is read in cycle 103 + i; a's word i then takes the slot of word i - 16, read a cycle earlier.
  return First(error, First(Equal(last, 103 + kWords - 1), Equal(early, 103 + kWords - 1 - 16)));
}

std::string Nested() {
  uint64_t last = 0;
  const std::string error = Timed([&] {
    Dataflow outer;
    outer.Launch("Other", [&] {
      BERTILE_CYCLES(10);
      Dataflow inner;
      inner.Launch("Source", [] { BERTILE_CYCLES(20); });
      inner.Launch("Sink", [] { BERTILE_CYCLES(7); });
      inner.Join();
      BERTILE_CYCLES(100);
    });
    outer.Join();
    last = outer.last_cycle();
  });
  return First(error, Equal(last, 130));
}

// A thread that stops at odd moments must not be seen.
void Stumble(Random& random) {
  for (int64_t i = random.Between(0, 9) == 0 ? random.Between(0, 60) : 0; i > 0; --i) sched_yield();
}

std::string Repeatable() {
  std::vector<uint64_t> lasts;
  std::string error;
  for (int run = 0; run < 12; ++run) {
    error = First(error, Timed([&] {
      Stream<int, 3> there("there");
      Stream<int, 9> on("on"), back("back");
      Dataflow stages;
      stages.Launch("Source", [&] {
        Random work(1), odd(run);
        for (int i = 0; i < kWords; ++i) {
          Stumble(odd);
          BERTILE_CYCLES(work.Between(0, 4));
          there.write(i < 8 ? i : back.read());
        }
        for (int i = 0; i < 8; ++i) back.read();
      });
      stages.Launch("Middle", [&] {
        Random odd(run + 100);
        for (int i = 0; i < kWords; ++i) {
          Stumble(odd);
          on.write(there.read());
        }
      });
      stages.Launch("Other", [&] {
        Random work(2), odd(run + 200);
        for (int i = 0; i < kWords; ++i) {
          Stumble(odd);
          const int value = on.read();
          BERTILE_CYCLES(work.Between(0, 5));
          back.write(value);
        }
      });
      stages.Join();
      lasts.push_back(stages.last_cycle());
    }));
  }
  Comparison comparison("last cycle");
  for (uint64_t last : lasts) comparison.Equal(int64_t(last), int64_t(lasts[0]));
  return First(error, comparison.Result(12));
}

// A model with a clock: a word goes in, and three cycles later it may leave; four fit in.
void RunClocked(Numbers& in, Numbers& out, int count, uint64_t batch, std::vector<uint64_t>& given) {
  ClockedInput<int> words(in, kCrossing);
  ClockedOutput<int> results(out, kCrossing);
  BatchClock clock(kCrossing, batch);
  std::deque<std::pair<uint64_t, int>> inside;
  while (int(given.size()) < count) {
    clock.Begin();
    const uint64_t now = clock.now();
    const bool takes = inside.size() < 4 && words.Valid(now);
    if (!inside.empty() && inside.front().first <= now && results.Ready(now)) {
      results.Give(inside.front().second, now);
      inside.pop_front();
      given.push_back(now);
    }
    if (takes) {
      inside.push_back({now + 3, words.Head()});
      words.Take(now);
    }
    clock.End();
  }
}

// Source, clocked stage, and a sink that spends `cycles` on a word.
std::string ThroughClocked(int cycles, uint64_t batch, uint64_t expected) {
  uint64_t last = 0;
  std::vector<uint64_t> given;
  const std::string error = Timed([&] {
    Stream<int, 16> words("words"), results("results");
    Dataflow stages;
    stages.Launch("Source", [&] { Produce(words); });
    stages.Launch("Clocked", [&] { RunClocked(words, results, kWords, batch, given); });
    stages.Launch("Sink", [&] { Consume(results, cycles); });
    stages.Join();
    last = stages.last_cycle();
  });
  return First(error, Equal(last, expected));
}

// Six words in a ring with a clocked stage; the cycles at which they leave it.
std::vector<uint64_t> Ring(uint64_t batch, unsigned seed, std::string& error) {
  std::vector<uint64_t> given;
  error = First(error, Timed([&] {
    Stream<int, 2> words("words");
    Stream<int, 5> results("results");
    Dataflow stages;
    stages.Launch("Source", [&] {
      Random work(3), odd(seed);
      for (int i = 0; i < kWords; ++i) {
        Stumble(odd);
        BERTILE_CYCLES(work.Chance(5) ? 40 : 0);
        words.write(i < 6 ? i : results.read());
      }
      for (int i = 0; i < 6; ++i) results.read();
    });
    stages.Launch("Clocked", [&] { RunClocked(words, results, kWords, batch, given); });
    stages.Join();
  }));
  return given;
}

// Asking for quiescence in every cycle or in every ninth gives the same cycles.
std::string BatchesAreExact() {
  std::string error;
  const std::vector<uint64_t> exact = Ring(1, 0, error);
  Comparison comparison("cycle of a result");
  for (uint64_t batch : {uint64_t(2), uint64_t(5), 2 * kCrossing + 1}) {
    const std::vector<uint64_t> given = Ring(batch, unsigned(batch), error);
    for (size_t i = 0; i < std::min(given.size(), exact.size()); ++i) {
      comparison.Equal(int64_t(given[i]), int64_t(exact[i]));
    }
  }
  return First(error, comparison.Result(3 * kWords));
}

std::string Expect(const std::string& error, const std::string& part) {
  return error.find(part) == std::string::npos ? "error is '" + error + "' without '" + part + "'" : "";
}

std::string LongBatch() {
  return Expect(ThroughClocked(0, 2 * kCrossing + 2, 0), "feels its own effects");
}

std::string StageThatFails() {
  std::vector<uint64_t> given;
  return Expect(Timed([&] {
    Stream<int, 2> words("words"), results("results");
    Dataflow stages;
    stages.Launch("Source", [] { throw std::runtime_error("no such number"); });
    stages.Launch("Clocked", [&] { RunClocked(words, results, 1, 1, given); });
    stages.Launch("Sink", [&] { results.read(); });
    stages.Join();
  }), "Source: no such number");
}

std::string UnknownStage() {
  return Expect(Timed([] {
    Stream<int, 2> numbers("numbers");
    Dataflow stages;
    stages.Launch("Nobody", [&] { numbers.write(1); });
    stages.Join();
  }), "Nobody: the timing model has no latency");
}

std::string Polling() {
  return Expect(Timed([] {
    Stream<int, 2> numbers("numbers");
    Dataflow stages;
    stages.Launch("Sink", [&] {
      int value;
      numbers.read_nb(value);
    });
    stages.Join();
  }), "read_nb of numbers in a timed simulation");
}

}  // namespace

int main() {
  Cases cases;
  // Word i is sent in cycle i and read five cycles later.
  cases.Report("a word a cycle", TwoStages<16>(Produce, 0, 5 + kWords - 1));
  cases.Report("a FIFO as deep as the pipeline and one more", TwoStages<6>(Produce, 0, 5 + kWords - 1));
  // Word i + 4 waits for word i to be read, then takes six cycles.
  cases.Report("a FIFO of 4 behind a pipeline of 5", TwoStages<4>(Produce, 0, 5 + 3 + 6 * (kWords / 4 - 1)));
  cases.Report("a slow sink", TwoStages<16>(Produce, 2, 5 + 2 * kWords));
  cases.Report("a slow sink behind a FIFO of 1", TwoStages<1>(Produce, 2, 5 + 6 * (kWords - 1) + 2));
  cases.Report("a pipeline that runs empty", TwoStages<16>(DrainEveryTen, 0, 5 + kWords - 1 + 4 * (kWords / 10 - 1)));
  cases.Report("memory", TwoStages<16>(ReadMemory, 0, 60 + kWords * 64 / 48 + 5));
  cases.Report("three stages", ThreeStages());
  cases.Report("two inputs", TwoInputs());
  cases.Report("a region inside a stage", Nested());
  cases.Report("the same cycles in every run", Repeatable());
  // Crossing, three cycles inside, crossing.
  cases.Report("a clocked stage", ThroughClocked(0, 9, 5 + 2 * kCrossing + 3 + kWords - 1));
  cases.Report("a clocked stage asked in every cycle", ThroughClocked(0, 1, 5 + 2 * kCrossing + 3 + kWords - 1));
  cases.Report("a clocked stage and a slow sink", ThroughClocked(3, 9, 5 + 2 * kCrossing + 3 + 3 * kWords));
  cases.Report("batches of cycles are exact", BatchesAreExact());
  cases.Report("a batch that is too long", LongBatch());
  cases.Report("a stage that fails stops the clock", StageThatFails());
  cases.Report("a stage without a latency", UnknownStage());
  cases.Report("a poll", Polling());
  return cases.Finish();
}
