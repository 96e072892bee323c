// The simulation finds what a card would hang on: FIFOs that are too shallow, leftovers in a stream, failing stages.
#include <chrono>
#include <stdexcept>

#include "encoder/softmax.hpp"
#include "testing.hpp"

using namespace bertile;
using namespace bertile::testing;

namespace {

const double kSeconds = 0.3;

std::string Expect(const std::string& error, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    if (error.find(part) == std::string::npos) return "error is '" + error + "' without '" + part + "'";
  }
  return "";
}

// One softmax row of `keys` keys with a score FIFO of the given depth.
template <int ScoreDepth>
std::string RunSoftmax(int keys) {
  const SoftmaxCommand table = {kSoftmaxTable, 0, 0, 0, 0};
  const SoftmaxCommand row = {kSoftmaxRow, uint16_t(keys), 0, 0, 1000};
  const SoftmaxCommand end = {kSoftmaxEnd, 0, 0, 0, 0};
  const int words = CeilDivide(keys, kArrayOutputs) * kArrayOutputs;
  Beat ones;
  for (uint8_t& byte : ones.byte) byte = 0xFE;
  const std::vector<Beat> table_beats(kExponentialEntries * 2 / kPacketBeatBytes, ones);
  return Simulate(
      [&] {
        Stream<SoftmaxCommand, 4> scan("scan_commands"), exponentiate("exponentiate_commands");
        Stream<WideWord, 4> results("results");
        Stream<WideWord, ScoreDepth> scores("scores");
        Stream<WideWord, 2> maxima("maxima");
        Stream<Beat, 4> tables("table"), out("words");
        std::vector<Beat> received;
        Dataflow stages;
        stages.Launch("feed scan", [&] { Feed({row, end}, scan); });
        stages.Launch("feed exponentiate", [&] { Feed({table, row, end}, exponentiate); });
        stages.Launch("feed results", [&] { Feed(std::vector<WideWord>(words, WideWord()), results); });
        stages.Launch("feed table", [&] { Feed(table_beats, tables); });
        stages.Launch("SoftmaxScan", [&] { SoftmaxScan(scan, results, scores, maxima); });
        stages.Launch("SoftmaxExponentiate", [&] { SoftmaxExponentiate(exponentiate, scores, maxima, tables, out); });
        stages.Launch("collect", [&] { Collect(uint64_t(words) + 2, out, received); });
        stages.Join();
      },
      kSeconds);
}

std::string Leftover() {
  const std::string error = Simulate([] {
    Stream<int, 4> clean("clean"), forgotten("forgotten");
    clean.write(1);
    clean.read();
    forgotten.write(2);
  });
  return First(Expect(error, {"stream forgotten is not empty at the end"}),
               error.find("clean") == std::string::npos ? "" : "an empty stream is reported: " + error);
}

std::string ThrowingStage() {
  std::vector<int> received;
  const std::string error = Simulate([&] {
    Stream<int, 2> numbers("numbers");
    Dataflow stages;
    stages.Launch("Producer", [&] {
      numbers.write(1);
      throw std::runtime_error("no such number");
    });
    stages.Launch("Consumer", [&] { Collect(2, numbers, received); });
    stages.Join();
  });
  return Expect(error, {"Producer: no such number"});
}

// A stage that computes for long while nothing waits is no deadlock.
std::string SlowStage() {
  return Simulate(
      [] {
        Dataflow stages;
        stages.Launch("Slow", [] {
          const auto start = std::chrono::steady_clock::now();
          while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(900)) {
          }
        });
        stages.Join();
      },
      kSeconds);
}

// Two stages that each wait for the other's first word.
std::string Cycle() {
  const std::string error = Simulate(
      [] {
        Stream<int, 2> there("there"), back("back");
        Dataflow stages;
        stages.Launch("A", [&] { there.write(back.read()); });
        stages.Launch("B", [&] { back.write(there.read()); });
        stages.Join();
      },
      kSeconds);
  return Expect(error, {"deadlock", "there (empty)", "back (empty)"});
}

// Every value arrives once and in order, whatever the depth.
template <int Depth>
std::string InOrder() {
  Comparison comparison("stream");
  const int count = 20000;
  const std::string error = Simulate([&] {
    Stream<int, Depth> numbers("numbers");
    Dataflow stages;
    stages.Launch("Producer", [&] {
      for (int i = 0; i < count; ++i) numbers.write(i);
    });
    stages.Launch("Consumer", [&] {
      for (int i = 0; i < count;) {
        int value;
        if (i % 3 == 0 && !numbers.read_nb(value)) continue;
        if (i % 3 != 0) value = numbers.read();
        comparison.Equal(value, i++);
      }
    });
    stages.Join();
  });
  return First(error, comparison.Result(count));
}

}  // namespace

int main() {
  Cases cases;
  const std::vector<std::string> stuck = {"deadlock", "scores (full)", "maxima (empty)"};
  cases.Report("score FIFO of 16 hangs with 100 keys", Expect(RunSoftmax<16>(100), stuck));
  cases.Report("score FIFO of 511 hangs with 512 keys", Expect(RunSoftmax<511>(kCapacityTokens), stuck));
  cases.Report("score FIFO of 512 passes with 512 keys", RunSoftmax<512>(kCapacityTokens));
  cases.Report("score FIFO as designed passes with 512 keys", RunSoftmax<kScoreDepth>(kCapacityTokens));
  cases.Report("two stages that wait for each other", Cycle());
  cases.Report("a slow stage is no deadlock", SlowStage());
  cases.Report("a word left in a stream is reported", Leftover());
  cases.Report("a stage that throws is reported with its name", ThrowingStage());
  cases.Report("stream of depth 1 keeps order", InOrder<1>());
  cases.Report("stream of depth 64 keeps order", InOrder<64>());
  return cases.Finish();
}
