// Both softmax stages against a scalar softmax written from the law of numbers.
#include "encoder/softmax.hpp"
#include "testing.hpp"

using namespace bertile;
using namespace bertile::testing;

namespace {

const int kNumeratorMax = kLawProbabilityMax * ((1 << kLawRowScaleBits) - 1);

typedef std::vector<std::vector<int>> Scores;  // [lane][key]

struct Row {
  SoftmaxCommand command;
  Scores scores;
};

Row RandomRow(Random& random, int keys, int number, int low, int high) {
  Row row;
  row.command = {kSoftmaxRow, uint16_t(keys), uint16_t(random.Between(0, kCapacityActivationWords - kCapacityTokens)),
                 uint16_t(number % kCapacityProbabilitySlots), uint32_t(random.Extreme(1, kNumeratorMax))};
  for (int lane = 0; lane < kWordTokens; ++lane) {
    std::vector<int> scores;
    for (int key = 0; key < keys; ++key) scores.push_back(int(random.Extreme(low, high)));
    row.scores.push_back(scores);
  }
  return row;
}

// Scores as the engine sends them: whole tiles, the keys behind the last real one as large as can be.
std::vector<WideWord> ResultWords(const Row& row) {
  std::vector<WideWord> words;
  const int keys = row.command.keys;
  for (int key = 0; key < (keys + kArrayOutputs - 1) / kArrayOutputs * kArrayOutputs; ++key) {
    WideWord word;
    for (int lane = 0; lane < kWordTokens; ++lane) {
      word.lane[lane] = int16_t(key < keys ? row.scores[lane][key] : 32767);
    }
    words.push_back(word);
  }
  return words;
}

struct Softmax {
  std::vector<int> probability;
  uint64_t scale;
};

Softmax Reference(const std::vector<int>& scores, const std::vector<int>& table, uint32_t numerator) {
  int maximum = scores[0];
  for (int score : scores) maximum = score > maximum ? score : maximum;
  Softmax result = {};
  uint64_t sum = 0;
  for (int score : scores) {
    const int distance = maximum - score;
    const int octaves = distance / 256;
    result.probability.push_back(int(RoundedQuotient(table[distance % 256], 8 + (octaves > 15 ? 15 : octaves))));
    sum += uint64_t(result.probability.back());
  }
  result.scale = (numerator + sum / 2) / sum;
  return result;
}

int Byte16(const Beat& beat, int at) { return beat.byte[at] + 256 * beat.byte[at + 1]; }

void CompareRow(const Row& row, const std::vector<int>& table, const std::vector<Beat>& words, size_t& next,
                Comparison& comparison) {
  const int keys = row.command.keys;
  const int padded = (keys + kArrayOutputs - 1) / kArrayOutputs * kArrayOutputs;
  std::vector<Softmax> expected;
  for (int lane = 0; lane < kWordTokens; ++lane) {
    expected.push_back(Reference(row.scores[lane], table, row.command.numerator));
  }
  for (int key = 0; key < padded; ++key) {
    const Beat& beat = words[next++];
    comparison.Equal(Byte16(beat, 32), row.command.target + key);
    comparison.Equal(beat.byte[34], kWordKindActivation);
    for (int lane = 0; lane < kWordTokens; ++lane) {
      comparison.Equal(beat.byte[lane], key < keys ? expected[lane].probability[key] : 0);
    }
  }
  for (int half = 0; half < 2; ++half) {
    const Beat& beat = words[next++];
    comparison.Equal(Byte16(beat, 32), 2 * row.command.slot + half);
    comparison.Equal(beat.byte[34], kWordKindRowScale);
    for (int lane = 0; lane < 16; ++lane) {
      comparison.Equal(Byte16(beat, 2 * lane), int64_t(expected[16 * half + lane].scale));
    }
  }
}

uint64_t WordsOf(const Row& row) { return (row.command.keys + kArrayOutputs - 1) / kArrayOutputs * kArrayOutputs + 2; }

// Load the table, run all rows back to back, compare every value of every word.
std::string RunRows(const std::vector<Row>& rows, const std::vector<int>& table) {
  std::vector<SoftmaxCommand> scan_commands, exponentiate_commands;
  std::vector<WideWord> scores;
  uint64_t count = 0, values = 0;
  const SoftmaxCommand load = {kSoftmaxTable, 0, 0, 0, 0}, end = {kSoftmaxEnd, 0, 0, 0, 0};
  exponentiate_commands.push_back(load);
  for (const Row& row : rows) {
    scan_commands.push_back(row.command);
    exponentiate_commands.push_back(row.command);
    for (const WideWord& word : ResultWords(row)) scores.push_back(word);
    count += WordsOf(row);
    values += (WordsOf(row) - 2) * (2 + kWordTokens) + 2 * (2 + kWordTokens / 2);
  }
  scan_commands.push_back(end);
  exponentiate_commands.push_back(end);
  std::vector<Beat> table_beats(kExponentialEntries * 2 / kPacketBeatBytes);
  for (int i = 0; i < kExponentialEntries; ++i) {
    table_beats[i / 32].byte[2 * (i % 32)] = uint8_t(table[i]);
    table_beats[i / 32].byte[2 * (i % 32) + 1] = uint8_t(table[i] >> 8);
  }
  std::vector<Beat> words;
  const std::string failure = Simulate([&] {
    Stream<SoftmaxCommand, 4> scan("scan_commands"), exponentiate("exponentiate_commands");
    Stream<WideWord, 4> results("results");
    Stream<WideWord, kScoreDepth> fifo("scores");
    Stream<WideWord, 2> maxima("maxima");
    Stream<Beat, 4> tables("table"), out("words");
    Dataflow stages;
    stages.Launch("feed scan", [&] { Feed(scan_commands, scan); });
    stages.Launch("feed exponentiate", [&] { Feed(exponentiate_commands, exponentiate); });
    stages.Launch("feed results", [&] { Feed(scores, results); });
    stages.Launch("feed table", [&] { Feed(table_beats, tables); });
    stages.Launch("SoftmaxScan", [&] { SoftmaxScan(scan, results, fifo, maxima); });
    stages.Launch("SoftmaxExponentiate", [&] { SoftmaxExponentiate(exponentiate, fifo, maxima, tables, out); });
    stages.Launch("collect", [&] { Collect(count, out, words); });
    stages.Join();
  });
  if (!failure.empty()) return failure;
  Comparison comparison("softmax");
  size_t next = 0;
  for (const Row& row : rows) CompareRow(row, table, words, next, comparison);
  return comparison.Result(values);
}

}  // namespace

int main() {
  Cases cases;
  Random random(21);
  // 255 x 2^-(f / 256), in 8 fraction bits: 256 successive multiplications, so no library function is trusted.
  std::vector<int> table;
  double value = 255.0 * 256;
  for (int i = 0; i < 256; ++i, value /= 1.0027112750502025) table.push_back(int(value + 0.5));

  const int lengths[] = {1, 2, 15, 16, 17, 31, 33, 100, 511, 512};
  for (int keys : lengths) {
    const std::vector<Row> rows = {RandomRow(random, keys, 0, -2000, 2000), RandomRow(random, keys, 1, -32768, 32767)};
    cases.Report(std::to_string(keys) + " keys", RunRows(rows, table));
  }

  std::vector<Row> mixed;
  for (int i = 0; i < 12; ++i) mixed.push_back(RandomRow(random, int(random.Between(1, 90)), i, -700, 700));
  cases.Report("rows of different lengths back to back", RunRows(mixed, table));

  std::vector<Row> constant;
  const int levels[] = {-32768, -1, 0, 32767};
  for (int level : levels) constant.push_back(RandomRow(random, 37, 0, level, level));
  cases.Report("equal scores", RunRows(constant, table));

  Row largest = RandomRow(random, 512, 2, 5, 5);
  largest.command.numerator = kNumeratorMax;
  Row single = RandomRow(random, 1, 0, 9, 9);
  single.command.numerator = kNumeratorMax;  // over a sum of 255: the largest row scale
  cases.Report("largest sum and largest row scale", RunRows({largest, single}, table));

  std::vector<int> odd(256);
  for (int& entry : odd) entry = int(random.Extreme(128, 65407));
  odd[0] = 65280;
  cases.Report("an arbitrary table", RunRows({RandomRow(random, 65, 0, -4000, 4000)}, odd));
  return cases.Finish();
}
