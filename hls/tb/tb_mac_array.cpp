// The packed product (two INT8 multiplications in one DSP48E2) against plain products.
#include "engine/mac_array.hpp"
#include "testing.hpp"

using namespace bertile;
using namespace bertile::testing;

namespace {

// Every kind of operand: int8, and uint8 as the array sees it.
const int kOperands[] = {-128, -127, -65, -64, -2, -1, 0, 1, 2, 63, 64, 127, 128, 129, 191, 254, 255};
const int kOperandCount = sizeof(kOperands) / sizeof(kOperands[0]);

struct Bench {
  ArrayOperand operand;
  Beat weights;
  Accumulators actual = {};
  int64_t expected[kArrayOutputs][kWordTokens] = {};

  int weight(int input, int output) const { return int8_t(weights.byte[input * kArrayOutputs + output]); }
  void SetWeight(int input, int output, int value) { weights.byte[input * kArrayOutputs + output] = uint8_t(value); }

  void Cycle() {
    MacCycle(operand, weights, actual);
    for (int output = 0; output < kArrayOutputs; ++output) {
      for (int lane = 0; lane < kWordTokens; ++lane) {
        for (int i = 0; i < kArrayInputs; ++i) {
          expected[output][lane] += int64_t(weight(i, output)) * operand.lane[i][lane];
        }
      }
    }
  }
  void Compare(Comparison& comparison) const {
    for (int output = 0; output < kArrayOutputs; ++output) {
      for (int lane = 0; lane < kWordTokens; ++lane) {
        comparison.Equal(actual.value[output][lane], expected[output][lane]);
      }
    }
  }
};

const uint64_t kCycleValues = kArrayOutputs * kWordTokens;

// Every pair of weights in the two fields, with every operand of the list on all four inputs at once.
std::string EveryWeightPair() {
  Comparison comparison("pair");
  uint64_t cycles = 0;
  for (int low = -128; low < 128; ++low) {
    for (int first = -128; first < 128; first += kArrayOutputs / 2) {
      Bench bench;
      for (int i = 0; i < kArrayInputs; ++i) {
        for (int pair = 0; pair < kArrayOutputs / 2; ++pair) {
          bench.SetWeight(i, 2 * pair, low);
          bench.SetWeight(i, 2 * pair + 1, first + pair);
        }
        for (int lane = 0; lane < kWordTokens; ++lane) {
          bench.operand.lane[i][lane] = int16_t(kOperands[lane % kOperandCount]);
        }
      }
      bench.Cycle();
      bench.Compare(comparison);
      ++cycles;
    }
  }
  return comparison.Result(cycles * kCycleValues);
}

// Corner weights and operands in every combination over the four inputs.
std::string CornerCombinations() {
  const int weights[] = {-128, -127, 0, 127};
  const int operands[] = {-128, 0, 127, 255};
  Comparison comparison("corner");
  uint64_t cycles = 0;
  for (int w = 0; w < 256; ++w) {
    for (int first = 0; first < 256; first += kWordTokens) {
      Bench bench;
      for (int i = 0; i < kArrayInputs; ++i) {
        for (int output = 0; output < kArrayOutputs; ++output) {
          bench.SetWeight(i, output, weights[((w + 37 * output) >> (2 * i)) & 3]);
        }
        for (int lane = 0; lane < kWordTokens; ++lane) {
          bench.operand.lane[i][lane] = int16_t(operands[((first + lane) >> (2 * i)) & 3]);
        }
      }
      bench.Cycle();
      bench.Compare(comparison);
      ++cycles;
    }
  }
  return comparison.Result(cycles * kCycleValues);
}

std::string RandomCycles() {
  Random random(11);
  Comparison comparison("random");
  const int cycles = 5000;
  for (int cycle = 0; cycle < cycles; ++cycle) {
    Bench bench;
    for (uint8_t& byte : bench.weights.byte) byte = uint8_t(random.Extreme(-128, 127));
    const bool is_unsigned = random.Chance(50);
    for (int i = 0; i < kArrayInputs; ++i) {
      for (int lane = 0; lane < kWordTokens; ++lane) {
        bench.operand.lane[i][lane] = int16_t(is_unsigned ? random.Extreme(0, 255) : random.Extreme(-128, 127));
      }
    }
    bench.Cycle();
    bench.Compare(comparison);
  }
  return comparison.Result(cycles * kCycleValues);
}

// The longest accumulation there is: 4,096 inputs, all at one end of their range.
std::string LongestSums() {
  const int weights[] = {-128, -127, 127};
  const int operands[] = {-128, 127, 255};
  Comparison comparison("sum");
  uint64_t benches = 0;
  for (int weight : weights) {
    for (int operand : operands) {
      Bench bench;
      for (int i = 0; i < kArrayInputs; ++i) {
        for (int output = 0; output < kArrayOutputs; ++output) {
          bench.SetWeight(i, output, output % 3 ? weight : -weight - 1);
        }
        for (int lane = 0; lane < kWordTokens; ++lane) bench.operand.lane[i][lane] = int16_t(operand);
      }
      for (int cycle = 0; cycle < kCapacityFfn / kArrayInputs; ++cycle) bench.Cycle();
      bench.Compare(comparison);
      ++benches;
    }
  }
  return comparison.Result(benches * kCycleValues);
}

// Operands come from memory as signed or unsigned lanes, whatever copy they are read from.
std::string OperandSigns() {
  std::unique_ptr<EngineMemory> memory(new EngineMemory());
  Random random(12);
  const uint16_t address[kArrayInputs] = {0, 4095, 17, uint16_t(kCapacityActivationWords - 1)};
  for (int i = 0; i < kArrayInputs; ++i) {
    Beat beat = {};
    for (int lane = 0; lane < kWordTokens; ++lane) beat.byte[lane] = uint8_t(lane == 0 ? 128 : random.Between(0, 255));
    EngineWord header;
    header.address = address[i];
    header.kind = kWordKindActivation;
    EncodeEngineWord(header, beat.byte);
    StoreWord(beat, true, *memory);
  }
  Comparison comparison("operand");
  for (int is_unsigned = 0; is_unsigned < 2; ++is_unsigned) {
    const ArrayOperand operand = ReadOperand(*memory, address, is_unsigned != 0);
    for (int i = 0; i < kArrayInputs; ++i) {
      for (int lane = 0; lane < kWordTokens; ++lane) {
        const int stored = memory->activation[(i + 1) & 1][address[i]].lane[lane];
        comparison.Equal(operand.lane[i][lane], is_unsigned && stored < 0 ? stored + 256 : stored);
      }
    }
  }
  return comparison.Result(2 * kArrayInputs * kWordTokens);
}

}  // namespace

int main() {
  Cases cases;
  cases.Report("every pair of weights with corner operands", EveryWeightPair());
  cases.Report("corner weights and operands over four inputs", CornerCombinations());
  cases.Report("random cycles", RandomCycles());
  cases.Report("longest sums at the ends of the range", LongestSums());
  cases.Report("signed and unsigned operands from both copies", OperandSigns());
  return cases.Finish();
}
