// Residual addition and LayerNorm, both stages and the residual loop, against a scalar one written from the law.
#include "encoder/moments.hpp"
#include "testing.hpp"

using namespace bertile;
using namespace bertile::testing;

namespace {

typedef std::vector<std::vector<int>> Rows;  // [token][feature]

struct Parameters {
  int64_t epsilon;
  int residual_shift, output_shift;
  std::vector<int> residual_multiplier, gain, offset;  // [feature]
};

// One normalization: the engine's results and the parameters.
struct Step {
  Rows results;
  Parameters parameters;
};

struct Shape {
  int tiles, row_first, row_count, target, target_stride;
  int hidden() const { return tiles * kArrayOutputs; }
  Region region() const {
    return {uint16_t(tiles), uint16_t(row_first), uint16_t(row_count), uint16_t(target), uint16_t(target_stride)};
  }
};

uint64_t SquareRoot(uint64_t value) {  // floor, by bisection
  uint64_t low = 0, high = uint64_t(1) << 32;
  while (high - low > 1) {
    const uint64_t middle = (low + high) / 2;
    (middle * middle <= value ? low : high) = middle;
  }
  return low;
}

std::vector<int> Reference(const std::vector<int>& y, const std::vector<int>& x, const Parameters& p) {
  const int64_t features = int64_t(y.size());
  std::vector<int64_t> z;
  Exact total = 0, squares = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const Exact residual = RoundedQuotient(Exact(x[i]) * p.residual_multiplier[i], p.residual_shift);
    z.push_back(Saturated(y[i] + residual, -32768, 32767));
    total += z.back();
    squares += Exact(z.back()) * z.back();
  }
  const uint64_t variance = uint64_t(features * squares - total * total + p.epsilon);
  int length = 0;
  while (variance >> length) ++length;
  const int half = (length + 1) / 2 - 16;  // the argument has 31 or 32 bits
  const uint64_t argument = half < 0 ? variance << (-2 * half) : variance >> (2 * half);
  const uint64_t mantissa = (uint64_t(1) << 31) / SquareRoot(argument);
  std::vector<int> result;
  for (size_t i = 0; i < y.size(); ++i) {
    const Exact scaled = (features * z[i] - total) * Exact(mantissa);
    const int64_t normalized = Saturated(RoundedQuotient(scaled, 31 + half - 10), -32768, 32767);
    const Exact output = RoundedQuotient(Exact(normalized) * p.gain[i] + p.offset[i], p.output_shift);
    result.push_back(int(Saturated(output, -128, 127)));
  }
  return result;
}

Rows ReferenceRows(const Step& step, const Rows& residual) {
  Rows rows;
  for (size_t token = 0; token < residual.size(); ++token) {
    rows.push_back(Reference(step.results[token], residual[token], step.parameters));
  }
  return rows;
}

Rows RandomRows(Random& random, const Shape& shape, int low, int high) {
  Rows rows;
  for (int token = 0; token < shape.row_count * kWordTokens; ++token) {
    std::vector<int> row;
    for (int i = 0; i < shape.hidden(); ++i) row.push_back(int(random.Extreme(low, high)));
    rows.push_back(row);
  }
  return rows;
}

Parameters RandomParameters(Random& random, int hidden) {
  Parameters p = {random.Between(1, 1 << 20), 3, 18, {}, {}, {}};
  for (int i = 0; i < hidden; ++i) {
    p.residual_multiplier.push_back(int(random.Extreme(0, 1024)));
    p.gain.push_back(int(random.Extreme(-32767, 32767)));
    p.offset.push_back(int(random.Extreme(-(1 << 24), 1 << 24)));
  }
  return p;
}

void AppendBeats(const Parameters& p, std::vector<Beat>& beats) {
  Beat beat = {};
  LayernormHeader header;
  header.epsilon = p.epsilon;
  header.features = uint16_t(p.gain.size());
  header.residual_shift = uint8_t(p.residual_shift);
  header.output_shift = uint8_t(p.output_shift);
  EncodeLayernormHeader(header, beat.byte);
  beats.push_back(beat);
  for (size_t i = 0; i < p.gain.size(); ++i) {
    if (i % 8 == 0) beats.push_back(Beat());
    LayernormFeature feature;
    feature.offset = p.offset[i];
    feature.gain = int16_t(p.gain[i]);
    feature.residual_multiplier = uint16_t(p.residual_multiplier[i]);
    EncodeLayernormFeature(feature, beats.back().byte, int(i % 8) * LayernormFeature::kBytes);
  }
}

// Visit [token of lane 0][feature] in stream order.
template <typename Visit>
void ForEachWord(const Shape& shape, Visit visit) {
  for (int tile = 0; tile < shape.tiles; ++tile) {
    for (int row = 0; row < shape.row_count; ++row) {
      for (int i = 0; i < kArrayOutputs; ++i) visit(row * kWordTokens, tile * kArrayOutputs + i);
    }
  }
}

// Load `input`, then the steps one after another, each with the result before it as its residual.
std::string RunSteps(const Shape& shape, const Rows& input, const std::vector<Step>& steps) {
  std::vector<NormCommand> accumulate_commands, apply_commands;
  std::vector<WideWord> results;
  std::vector<Word> loaded;
  std::vector<Beat> parameters;
  ForEachWord(shape, [&](int token, int feature) {
    Word word;
    for (int lane = 0; lane < kWordTokens; ++lane) word.lane[lane] = int8_t(input[token + lane][feature]);
    loaded.push_back(word);
  });
  apply_commands.push_back({shape.region(), true, true, false, 0});
  std::vector<Rows> expected = {input};
  for (size_t i = 0; i < steps.size(); ++i) {
    const bool is_last = i + 1 == steps.size();
    const NormCommand command = {shape.region(), false, !is_last, is_last, 0};
    accumulate_commands.push_back(command);
    apply_commands.push_back(command);
    AppendBeats(steps[i].parameters, parameters);
    ForEachWord(shape, [&](int token, int feature) {
      WideWord word;
      for (int lane = 0; lane < kWordTokens; ++lane) word.lane[lane] = int16_t(steps[i].results[token + lane][feature]);
      results.push_back(word);
    });
    expected.push_back(ReferenceRows(steps[i], expected.back()));
  }
  accumulate_commands.push_back(NormCommand());
  apply_commands.push_back(NormCommand());

  const uint64_t count = uint64_t(shape.hidden()) * shape.row_count;
  std::vector<Beat> words;
  std::vector<Word> stored;
  const std::string failure = Simulate([&] {
    Stream<NormCommand, 8> accumulate("accumulate_commands"), apply("apply_commands");
    Stream<WideWord, 4> from_engine("results");
    Stream<WideWord, kSumDepth> sums("sums");
    Stream<Word, kResidualDepth> residuals("residuals");
    Stream<Word, 4> loads("loaded"), stores("stored");
    Stream<PartialMoments, kCapacityRowBlocks> partials("partials");
    Stream<RowMoments, kCapacityRowBlocks> moments("moments");
    Stream<MomentsCommand, 8> moments_commands("moments_commands");
    Stream<Beat, 1> to_0("moments_to_0"), to_1("moments_to_1"), from_0("moments_from_0"), from_1("moments_from_1");
    Stream<uint32_t, 1> agreed("agreed");
    Stream<Beat, 4> first_parameters("accumulate_parameters"), second_parameters("apply_parameters"), out("words");
    Dataflow stages;
    stages.Launch("feed accumulate", [&] { Feed(accumulate_commands, accumulate); });
    stages.Launch("feed apply", [&] { Feed(apply_commands, apply); });
    stages.Launch("feed results", [&] { Feed(results, from_engine); });
    stages.Launch("feed loads", [&] { Feed(loaded, loads); });
    stages.Launch("feed parameters 1", [&] { Feed(parameters, first_parameters); });
    stages.Launch("feed parameters 2", [&] { Feed(parameters, second_parameters); });
    stages.Launch("NormAccumulate",
                  [&] { NormAccumulate(accumulate, from_engine, first_parameters, residuals, sums, partials); });
    stages.Launch("feed moments", [&] {
      for (size_t i = 0; i < steps.size(); ++i) {
        moments_commands.write(MomentsCommand{kMomentsAlone, uint16_t(shape.row_count), 0});
      }
      moments_commands.write(MomentsCommand());
    });
    stages.Launch("NormMoments",
                  [&] { NormMoments(moments_commands, partials, to_0, to_1, from_0, from_1, agreed, moments); });
    stages.Launch("NormApply",
                  [&] { NormApply(apply, sums, moments, second_parameters, loads, residuals, stores, out); });
    stages.Launch("collect words", [&] { Collect(count * expected.size(), out, words); });
    stages.Launch("collect stored", [&] { Collect(count, stores, stored); });
    stages.Join();
  });
  if (!failure.empty()) return failure;

  Comparison comparison("layernorm");
  size_t next = 0, next_stored = 0;
  for (const Rows& rows : expected) {
    ForEachWord(shape, [&](int token, int feature) {
      const Beat& beat = words[next++];
      const int row_block = shape.row_first + token / kWordTokens;
      comparison.Equal(beat.byte[32] + 256 * beat.byte[33], shape.target + row_block * shape.target_stride + feature);
      for (int lane = 0; lane < kWordTokens; ++lane) {
        comparison.Equal(int8_t(beat.byte[lane]), rows[token + lane][feature]);
        if (&rows == &expected.back()) comparison.Equal(stored[next_stored].lane[lane], rows[token + lane][feature]);
      }
      if (&rows == &expected.back()) ++next_stored;
    });
  }
  return comparison.Result(count * (expected.size() * (1 + kWordTokens) + kWordTokens));
}

std::string RandomChain(Random& random, const Shape& shape, int low, int high) {
  std::vector<Step> steps;
  for (int i = 0; i < 2; ++i) {
    steps.push_back({RandomRows(random, shape, low, high), RandomParameters(random, shape.hidden())});
  }
  return RunSteps(shape, RandomRows(random, shape, -128, 127), steps);
}

// What each unit answers to the commands, given its partial sums and its error.
void RunTogether(const std::vector<std::vector<PartialMoments>>& partials, const std::vector<uint32_t>& errors,
                 std::vector<std::vector<RowMoments>>& moments, std::vector<uint32_t>& agreed) {
  std::vector<std::unique_ptr<Stream<MomentsCommand, 4>>> commands;
  std::vector<std::unique_ptr<Stream<PartialMoments, kCapacityRowBlocks>>> sums;
  std::vector<std::unique_ptr<Stream<RowMoments, kCapacityRowBlocks>>> results;
  std::vector<std::unique_ptr<Stream<uint32_t, 1>>> answers;
  typedef Stream<Beat, kStreamMomentsFrom> Link;
  std::vector<std::unique_ptr<Link>> from_0, from_1;  // of each unit, from its peers
  for (int unit = 0; unit < kCooperationUnits; ++unit) {
    from_0.emplace_back(new Link("moments_from_0"));
    from_1.emplace_back(new Link("moments_from_1"));
  }
  Dataflow stages;
  for (int unit = 0; unit < kCooperationUnits; ++unit) {
    commands.emplace_back(new Stream<MomentsCommand, 4>("commands"));
    sums.emplace_back(new Stream<PartialMoments, kCapacityRowBlocks>("partials"));
    results.emplace_back(new Stream<RowMoments, kCapacityRowBlocks>("moments"));
    answers.emplace_back(new Stream<uint32_t, 1>("agreed"));
    commands[unit]->write(MomentsCommand{kMomentsAgree, 0, errors[unit]});
    commands[unit]->write(MomentsCommand{kMomentsTogether, uint16_t(partials[unit].size()), 0});
    commands[unit]->write(MomentsCommand());
    for (const PartialMoments& partial : partials[unit]) sums[unit]->write(partial);
    const int next = (unit + 1) % kCooperationUnits, last = (unit + 2) % kCooperationUnits;
    stages.Launch("NormMoments", [&, unit, next, last] {
      NormMoments(*commands[unit], *sums[unit], *from_1[next], *from_0[last], *from_0[unit], *from_1[unit],
                  *answers[unit], *results[unit]);
    });
  }
  stages.Join();
  for (int unit = 0; unit < kCooperationUnits; ++unit) {
    agreed.push_back(answers[unit]->read());
    moments.emplace_back();
    for (size_t row = 0; row < partials[unit].size(); ++row) moments[unit].push_back(results[unit]->read());
  }
}

// Units that each know a part of the features make the moments of all.
std::string Together(Random& random, int rows, const std::vector<uint32_t>& errors, const std::vector<uint32_t>& told) {
  std::vector<std::vector<PartialMoments>> partials(kCooperationUnits);
  std::vector<PartialMoments> whole(rows);
  for (int row = 0; row < rows; ++row) {
    whole[row] = PartialMoments();
    for (std::vector<PartialMoments>& unit : partials) {
      PartialMoments partial = {};
      partial.features = whole[row].features = 768;
      partial.epsilon = whole[row].epsilon = 12345;
      for (int lane = 0; lane < kWordTokens; ++lane) {
        for (int feature = 0; feature < 256; ++feature) {
          const int64_t z = random.Extreme(-32768, 32767);
          partial.total[lane] += int32_t(z);
          partial.squares[lane] += z * z;
        }
        whole[row].total[lane] += partial.total[lane];
        whole[row].squares[lane] += partial.squares[lane];
      }
      unit.push_back(partial);
    }
  }
  std::vector<std::vector<RowMoments>> moments;
  std::vector<uint32_t> agreed;
  const std::string failure = Simulate([&] { RunTogether(partials, errors, moments, agreed); });
  if (!failure.empty()) return failure;
  Comparison comparison("moments");
  for (int unit = 0; unit < kCooperationUnits; ++unit) {
    comparison.Equal(agreed[unit], told[unit]);
    for (int row = 0; row < rows; ++row) {
      const RowMoments expected = MomentsOf(whole[row]);
      for (int lane = 0; lane < kWordTokens; ++lane) {
        comparison.Equal(moments[unit][row].total[lane], expected.total[lane]);
        comparison.Equal(moments[unit][row].mantissa[lane], expected.mantissa[lane]);
        comparison.Equal(moments[unit][row].shift[lane], expected.shift[lane]);
      }
    }
  }
  return comparison.Result(uint64_t(kCooperationUnits) * (1 + rows * 3 * kWordTokens));
}

}  // namespace

int main() {
  Cases cases;
  Random random(31);
  cases.Report("one tile, one row block", RandomChain(random, {1, 0, 1, 0, 16}, -500, 500));
  cases.Report("3 tiles, 2 row blocks from the third", RandomChain(random, {3, 2, 2, 7, 50}, -9000, 9000));
  cases.Report("5 tiles, 3 row blocks, full range", RandomChain(random, {5, 1, 3, 100, 80}, -32768, 32767));
  cases.Report("24 tiles, 16 row blocks", RandomChain(random, {24, 0, 16, 0, 384}, -4000, 4000));
  cases.Report("largest hidden size", RandomChain(random, {64, 3, 1, 0, 1024}, -32768, 32767));
  cases.Report("largest region", RandomChain(random, {64, 0, 16, 0, 1024}, -3000, 3000));

  const Shape shape = {2, 0, 1, 0, 32};
  Step constant = {RandomRows(random, shape, 0, 0), RandomParameters(random, shape.hidden())};
  for (int& multiplier : constant.parameters.residual_multiplier) multiplier = 0;
  constant.parameters.epsilon = 1;  // rows without any variance, the smallest epsilon
  for (size_t token = 0; token < constant.results.size(); ++token) {
    for (int& value : constant.results[token]) value = int(token) * 2114 - 32768;
    if (token % 3 == 0) constant.results[token][token % 32] -= token == 0 ? -1 : 1;
  }
  cases.Report("constant rows, and one value off", RunSteps(shape, RandomRows(random, shape, -128, 127), {constant}));

  Step saturating = {RandomRows(random, shape, -32768, 32767), RandomParameters(random, shape.hidden())};
  for (int& multiplier : saturating.parameters.residual_multiplier) multiplier = 65535;
  saturating.parameters.residual_shift = 0;
  saturating.parameters.output_shift = 0;
  cases.Report("saturating residual, sum and output",
               RunSteps(shape, RandomRows(random, shape, -128, 127), {saturating}));

  Step halves = {RandomRows(random, shape, -3, 3), RandomParameters(random, shape.hidden())};
  for (int& multiplier : halves.parameters.residual_multiplier) multiplier = 1;
  halves.parameters.residual_shift = 1;  // odd residuals are exact halves
  cases.Report("rounding of halves", RunSteps(shape, RandomRows(random, shape, -5, 5), {halves}));

  const uint32_t none = kErrorNone, peer = kErrorPeer, digest = kErrorDigest;
  cases.Report("moments of three units, one row block", Together(random, 1, {none, none, none}, {none, none, none}));
  cases.Report("moments of three units, 16 row blocks", Together(random, 16, {none, none, none}, {none, none, none}));
  cases.Report("one unit refuses", Together(random, 1, {none, digest, none}, {peer, digest, peer}));
  return cases.Finish();
}
