// What the sequencer lets the engine wait for (docs/architecture.md, Synchronisation), and the status of a launch.
#include "encoder/memory_access.hpp"
#include "encoder/sequencer.hpp"
#include "testing.hpp"

using namespace bertile;
using namespace bertile::testing;

namespace {

const int kRowBlocks = 4, kTiles = 6, kStride = 96;      // every region: 4 row blocks of 96 words
const int kResult = kRowBlocks * kStride;                // words of a load or gemm
const int kX = 0, kQuery = 4000, kKey = 5000, kValue = 6000, kContext = 7000, kHidden = 8000;
const int kHead = 32;                                    // head size, and address of the head in its row block

template <typename T>
std::vector<T> Drained(Stream<T>& stream) {
  std::vector<T> values;
  T value;
  while (stream.read_nb(value)) values.push_back(value);
  return values;
}

// The engine commands of a program; every stream takes all that the sequencer writes.
class SequencerBench {
 public:
  // `tokens` of the only sequence. 40 tokens are two row blocks. `tiles` of every gemm.
  explicit SequencerBench(int tokens, int tiles = kTiles) : sequence_{0, uint16_t(tokens)}, tiles_(tiles) {
    launch_.row_blocks = uint16_t(CeilDivide(tokens, kWordTokens));
    launch_.sequences = 1;
    launch_.hidden = kStride;
  }

  void Load(int row_first = 0, int row_count = kRowBlocks) {
    Add(kOpcodeLoad, kPostNone, 0, kX, row_first, row_count);
  }
  void Gemm(int post, int source, int target, int row_first = 0, int row_count = kRowBlocks) {
    Add(kOpcodeGemm, post, source, target, row_first, row_count);
  }
  // The last gemm has the features behind these of other units.
  void Behind(int features) {
    program_.back().features_before = uint16_t(features);
    program_.back().target = uint16_t(program_.back().target + features);
  }
  void Join(int tiles_0, int tiles_1, int row_first, int row_count) {
    Descriptor descriptor = {};
    descriptor.opcode = kOpcodeJoin;
    descriptor.peer_tiles_0 = uint16_t(tiles_0);
    descriptor.peer_tiles_1 = uint16_t(tiles_1);
    descriptor.row_first = uint8_t(row_first);
    descriptor.row_count = uint8_t(row_count);
    program_.push_back(descriptor);
  }

  void Attention() {
    Descriptor descriptor = {};
    descriptor.opcode = kOpcodeAttention;
    descriptor.head_size = kHead;
    descriptor.source = kQuery + kHead;
    descriptor.key = kKey + kHead;
    descriptor.value = kValue + kHead;
    descriptor.source_stride = kStride;
    descriptor.target = kContext;
    descriptor.target_stride = kStride;
    program_.push_back(descriptor);
  }

  std::vector<Command> Commands() {
    std::vector<Command> commands;
    const std::string failure = Simulate([&] {
      Stream<Beat, 4096> engine("engine");
      Stream<ReadRequest, 4096> tiles("tiles");
      Stream<ParameterRequest, 4096> parameters("parameters");
      Stream<NormCommand, 4096> loads("loads"), accumulate("accumulate"), apply("apply"), store("store");
      Stream<RouteCommand, 4096> route("route");
      Stream<MergeCommand, 4096> merge("merge");
      Stream<ActivateCommand, 4096> activate("activate");
      Stream<SoftmaxCommand, 4096> scan("scan"), exponentiate("exponentiate");
      Stream<MomentsCommand, 4096> moments("moments");
      Sequencer sequencer(launch_, &sequence_, {engine, tiles, parameters, loads, route, activate, scan, exponentiate,
                                                accumulate, moments, apply, merge, store});
      for (const Descriptor& descriptor : program_) sequencer.Execute(descriptor);
      sequencer.Finish();
      for (const Beat& beat : Drained(engine)) commands.push_back(DecodeCommand(beat.byte));
      for (Stream<NormCommand>* stream : {&loads, &accumulate, &apply, &store}) Drained(*stream);
      for (Stream<SoftmaxCommand>* stream : {&scan, &exponentiate}) Drained(*stream);
      Drained(tiles);
      Drained(parameters);
      Drained(activate);
      Drained(moments);
      Drained(route);
      Drained(merge);
    });
    if (!failure.empty()) commands.clear();
    return commands;
  }

 private:
  void Add(int opcode, int post, int source, int target, int row_first, int row_count) {
    Descriptor descriptor = {};
    descriptor.opcode = uint8_t(opcode);
    descriptor.post = uint8_t(post);
    descriptor.source = uint16_t(source);
    descriptor.source_stride = kStride;
    descriptor.target = uint16_t(target);
    descriptor.target_stride = kStride;
    descriptor.row_first = uint8_t(row_first);
    descriptor.row_count = uint8_t(row_count);
    descriptor.tiles = uint16_t(tiles_);
    descriptor.tile_beats = 1;
    program_.push_back(descriptor);
  }

  Launch launch_ = {};
  const LaunchSequence sequence_;
  const int tiles_;
  std::vector<Descriptor> program_;
};

struct Wait {
  int opcode, words, weight;
};

// The commands of the program must be these, with these waits.
std::string Waits(SequencerBench& bench, const std::vector<Wait>& expected) {
  const std::vector<Command> commands = bench.Commands();
  Comparison comparison("wait");
  for (size_t i = 0; i < commands.size() && i < expected.size(); ++i) {
    comparison.Equal(commands[i].opcode, expected[i].opcode);
    comparison.Equal(commands[i].await_words, expected[i].words);
    comparison.Equal(commands[i].await_weight, expected[i].weight);
  }
  return First(comparison.Result(3 * expected.size()),
               commands.size() == expected.size() ? "" : std::to_string(commands.size()) + " commands");
}

// Words of the other units that the commands await.
std::string PeerWaits(SequencerBench& bench, const std::vector<std::pair<int, int>>& expected) {
  const std::vector<Command> commands = bench.Commands();
  Comparison comparison("wait");
  for (size_t i = 0; i < commands.size() && i < expected.size(); ++i) {
    comparison.Equal(commands[i].await_peer_0, expected[i].first);
    comparison.Equal(commands[i].await_peer_1, expected[i].second);
  }
  return First(comparison.Result(2 * expected.size()),
               commands.size() == expected.size() ? "" : std::to_string(commands.size()) + " commands");
}

const int kGemm = kEngineOpcodeGemm, kScores = kEngineOpcodeScores, kContextOf = kEngineOpcodeContext;
const int kHalt = kEngineOpcodeHalt;

void Projections(SequencerBench& bench) {
  bench.Gemm(kPostNone, kX, kQuery);
  bench.Gemm(kPostNone, kX, kKey);
  bench.Gemm(kPostNone, kX, kValue);
}

// Four row blocks: none of the projections awaits another, scores do not await the values, a context awaits its softmax
// output, and the output projection everything.
std::string Layer() {
  SequencerBench bench(100);
  bench.Load();
  Projections(bench);
  bench.Attention();
  bench.Gemm(kPostLayernorm, kContext, kX);
  bench.Gemm(kPostActivation, kX, kHidden);
  bench.Gemm(kPostLayernorm, kHidden, kX);
  Projections(bench);
  const int n = kResult, attention = 4 * n, softmax = 112 + 2, context = 32;
  const int norm = attention + 4 * (softmax + context);
  return Waits(bench, {{kGemm, n, 0},
                       {kGemm, n, 0},
                       {kGemm, n, 0},
                       {kScores, 3 * n, 3 * n},
                       {kScores, 3 * n, 3 * n},
                       {kScores, 3 * n, 3 * n},
                       {kContextOf, attention + softmax, 4 * n},
                       {kScores, 3 * n, 3 * n},
                       {kContextOf, attention + 2 * softmax, 4 * n},
                       {kContextOf, attention + 3 * softmax, 4 * n},
                       {kContextOf, attention + 4 * softmax + context, 4 * n},
                       {kGemm, norm, 0},
                       {kGemm, norm + n, 0},
                       {kGemm, norm + 2 * n, 0},
                       {kGemm, norm + 3 * n, 0},
                       {kGemm, norm + 3 * n, 0},
                       {kGemm, norm + 3 * n, 0},
                       {kHalt, norm + 6 * n, 0}});
}

// Keys before queries: scores await both, the fetch of the keys awaits these alone.
std::string KeysFirst() {
  SequencerBench bench(32);
  bench.Load();
  bench.Gemm(kPostNone, kX, kKey);
  bench.Gemm(kPostNone, kX, kValue);
  bench.Gemm(kPostNone, kX, kQuery);
  bench.Attention();
  const int n = kStride;
  return Waits(bench, {{kGemm, n, 0}, {kGemm, n, 0}, {kGemm, n, 0}, {kScores, 4 * n, 2 * n},
                       {kContextOf, 4 * n + 34, 3 * n}, {kHalt, 4 * n + 34 + 32, 0}});
}

// Row chunks: whoever reads a region awaits the newest of those with its row blocks. The second chunk's hidden words have a
// base "below zero".
std::string RowChunks() {
  SequencerBench bench(100);
  bench.Load(0, 2);
  bench.Load(2, 2);
  bench.Gemm(kPostNone, kX, kQuery);
  bench.Gemm(kPostActivation, kX, kHidden, 0, 2);
  bench.Gemm(kPostLayernorm, kHidden, kX, 0, 2);
  const int below = (kHidden - 100 * kStride) & 65535;
  bench.Gemm(kPostActivation, kX, below, 2, 2);
  bench.Gemm(kPostLayernorm, below, kX, 2, 2);
  bench.Gemm(kPostNone, kX, kQuery);
  const int n = kResult, half = n / 2;
  return Waits(bench, {{kGemm, n, 0}, {kGemm, half, 0}, {kGemm, 2 * n + half, 0}, {kGemm, n, 0},
                       {kGemm, 3 * n + half, 0}, {kGemm, 4 * n, 0}, {kHalt, 5 * n, 0}});
}

// Two row blocks go ahead: no gemm awaits the result of the one before it.
std::string GoAhead() {
  SequencerBench bench(100);
  bench.Load();
  Projections(bench);
  bench.Attention();
  for (const int row : {0, 2}) bench.Gemm(kPostLayernorm, kContext, kX, row, 2);
  for (const int row : {0, 2}) bench.Gemm(kPostActivation, kX, kHidden, row, 2);
  for (const int row : {0, 2}) bench.Gemm(kPostLayernorm, kHidden, kX, row, 2);
  for (const int row : {0, 2}) bench.Gemm(kPostNone, kX, kQuery, row, 2);
  bench.Gemm(kPostNone, kX, kKey);
  const int n = kResult, half = n / 2, attention = 4 * n + 4 * (112 + 2 + 32);
  const std::vector<Command> commands = bench.Commands();
  Comparison comparison("wait");
  const int expected[] = {0, 0, half, n, n + half, 2 * n, 2 * n + half, 3 * n, 3 * n, 5 * n};
  const size_t first = commands.size() - 10;
  for (size_t i = 0; i < 10 && first + i < commands.size(); ++i) {
    comparison.Equal(commands[first + i].await_words, attention + expected[i]);
  }
  return comparison.Result(10);
}

// A unit's features are behind those of others: who reads the row from its start awaits them, too.
std::string BehindOthers() {
  SequencerBench bench(100);
  bench.Load();
  bench.Gemm(kPostActivation, kX, kHidden, 0, 2);
  bench.Behind(64);
  bench.Gemm(kPostActivation, kX, kHidden, 2, 2);
  bench.Behind(64);
  bench.Gemm(kPostLayernorm, kHidden, kX, 0, 2);
  const int n = kResult, half = n / 2;
  return Waits(bench, {{kGemm, n, 0}, {kGemm, n, 0}, {kGemm, n + half, 0}, {kHalt, 2 * n + half, 0}});
}

// An address without a record, or with one that is too old: everything is awaited.
std::string WithoutRecord() {
  SequencerBench bench(100);
  bench.Load();
  bench.Gemm(kPostNone, kX, kQuery);
  bench.Gemm(kPostNone, kX + kStride, kKey);        // behind the first row block of x
  bench.Gemm(kPostNone, kX + kStride - 1, kValue);  // the last word of it
  bench.Gemm(kPostNone, kX, kHidden);
  bench.Gemm(kPostNone, kX, kHidden);  // the record of x would be the fifth
  bench.Gemm(kPostNone, kKey, kContext);
  const int n = kResult;
  return Waits(bench, {{kGemm, n, 0}, {kGemm, 2 * n, 0}, {kGemm, n, 0}, {kGemm, n, 0}, {kGemm, 5 * n, 0},
                       {kGemm, 3 * n, 0}, {kHalt, 7 * n, 0}});
}

// The same region written over and over: the newest record counts, wherever it stands among the others.
std::string NewestRecord() {
  SequencerBench bench(100);
  bench.Load();
  std::vector<Wait> waits;
  for (int i = 1; i <= 9; ++i) {
    bench.Gemm(kPostNone, i == 1 ? kX : kQuery, kQuery);
    waits.push_back({kGemm, i * kResult, 0});
  }
  bench.Gemm(kPostNone, kQuery, kKey);
  bench.Gemm(kPostNone, kQuery, kValue);
  waits.push_back({kGemm, 10 * kResult, 0});
  waits.push_back({kGemm, 10 * kResult, 0});
  waits.push_back({kHalt, 12 * kResult, 0});
  return Waits(bench, waits);
}

// Words of a LayerNorm or a load may be more than the stream holds beside those of a gemm: then the next command takes
// them all, whatever it reads.
std::string BehindNorm(int tiles, bool fits) {
  SequencerBench bench(100, tiles);
  bench.Load();
  bench.Gemm(kPostNone, kX, kQuery);
  bench.Gemm(kPostLayernorm, kQuery, kX);
  bench.Gemm(kPostNone, kQuery, kKey);
  bench.Gemm(kPostNone, kQuery, kValue);
  const int n = tiles * kRowBlocks * kArrayOutputs, behind = fits ? 2 * n : 3 * n;
  return Waits(bench, {{kGemm, n, 0}, {kGemm, 2 * n, 0}, {kGemm, behind, 0}, {kGemm, behind, 0}, {kHalt, 5 * n, 0}});
}

// A second group of heads: contexts take the place of all records, and hold every address.
std::string BehindAttention() {
  SequencerBench bench(32);
  bench.Load();
  Projections(bench);
  bench.Attention();
  bench.Gemm(kPostNone, kX, kQuery);
  bench.Gemm(kPostNone, kQuery, kKey);
  const int n = kStride, all = 4 * n + 34 + 32;
  return Waits(bench, {{kGemm, n, 0}, {kGemm, n, 0}, {kGemm, n, 0}, {kScores, 3 * n, 3 * n},
                       {kContextOf, 4 * n + 34, 4 * n}, {kGemm, all, 0}, {kGemm, all + n, 0}, {kHalt, all + 2 * n, 0}});
}

// A join counts for all that follows: contexts that are still to come are sent before it. Row blocks that the launch
// does not have do not count (100 tokens are four).
std::string Joins() {
  SequencerBench bench(100);
  bench.Load();
  bench.Gemm(kPostNone, kX, kQuery);
  bench.Join(3, 5, 0, 16);
  bench.Gemm(kPostNone, kX, kKey);
  bench.Join(1, 0, 2, 1);
  bench.Join(0, 2, 4, 4);
  bench.Gemm(kPostLayernorm, kX, kX);
  const int words = kArrayOutputs;
  return PeerWaits(bench, {{0, 0}, {12 * words, 20 * words}, {13 * words, 20 * words}, {13 * words, 20 * words}});
}

Status WrittenStatus(uint32_t launch_error, const EngineStatus& engine) {
  Beat memory[1];
  for (uint8_t& byte : memory[0].byte) byte = 0xEE;
  Simulate([&] {
    Stream<RouteCommand, 4> route("route");
    Stream<Status, 2> launch_status("launch_status");
    Stream<WideWord, 2> results("results"), activate("activate"), softmax("softmax"), norm("norm"), answer("answer");
    route.write(RouteCommand{kStatusPath, 1});
    route.write(RouteCommand{kStatusPath, 0});
    Status status = {};
    status.spec_digest = kSpecDigest;
    status.error = launch_error;
    status.descriptors = 12345;
    launch_status.write(status);
    Beat beat = {};
    EncodeEngineStatus(engine, beat.byte);
    results.write(ToResult(beat));
    RouteResults(route, results, activate, softmax, norm, answer);
    WriteStatus(launch_status, answer, memory);
  });
  return DecodeStatus(memory[0].byte);
}

std::string StatusOf(uint32_t launch_error, uint64_t digest, uint32_t engine_error, uint32_t expected) {
  const uint64_t cycles = 0xFEDCBA9876543210;
  const Status status = WrittenStatus(launch_error, EngineStatus{digest, engine_error, cycles});
  Comparison comparison("status");
  comparison.Equal(int64_t(status.spec_digest), int64_t(kSpecDigest));
  comparison.Equal(status.error, expected);
  comparison.Equal(status.descriptors, 12345);
  comparison.Equal(status.engine_error, engine_error);
  comparison.Equal(int64_t(status.engine_cycles), int64_t(cycles));
  return comparison.Result(5);
}

}  // namespace

int main() {
  Cases cases;
  cases.Report("waits of a layer and the next", Layer());
  cases.Report("waits with keys before queries", KeysFirst());
  cases.Report("waits with row chunks", RowChunks());
  cases.Report("waits without a record", WithoutRecord());
  cases.Report("waits for the newest of several records", NewestRecord());
  cases.Report("waits of row blocks that go ahead", GoAhead());
  cases.Report("waits for features behind those of others", BehindOthers());
  cases.Report("waits behind a LayerNorm that fits the stream", BehindNorm(26, true));
  cases.Report("waits behind one that does not", BehindNorm(27, false));
  cases.Report("waits behind attention", BehindAttention());
  cases.Report("waits for what joins name", Joins());
  const uint32_t none = kErrorNone, index = kEngineErrorIndex;
  cases.Report("status without an error", StatusOf(none, kSpecDigest, kEngineErrorNone, kErrorNone));
  cases.Report("status with an engine error", StatusOf(none, kSpecDigest, index, kErrorEngine));
  cases.Report("status of an engine of another spec", StatusOf(none, kSpecDigest ^ 1, kEngineErrorNone, kErrorDigest));
  cases.Report("status of such an engine with an error", StatusOf(none, kSpecDigest ^ 1, index, kErrorDigest));
  cases.Report("status with an error of the launch", StatusOf(kErrorLaunch, kSpecDigest, index, kErrorLaunch));
  cases.Report("status with errors of all kinds", StatusOf(kErrorOpcode, kSpecDigest ^ 1, index, kErrorOpcode));
  return cases.Finish();
}
