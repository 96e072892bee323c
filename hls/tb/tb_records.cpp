// How C++ reads and writes the records of the contract, for tests/contract/test_codegen.py. Each line of standard input
// is a record's name and its bytes in hexadecimal; the answer is every field, then the bytes encoded again.
#include <iostream>
#include <string>
#include <vector>

#include "types.hpp"

using namespace bertile;

namespace {

typedef std::vector<uint8_t> Bytes;

Bytes FromHex(const std::string& text) {
  Bytes bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) bytes.push_back(uint8_t(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

void PrintHex(const Bytes& bytes) {
  const char* digits = "0123456789abcdef";
  for (uint8_t byte : bytes) std::cout << digits[byte >> 4] << digits[byte & 15];
  std::cout << "\n";
}

#define FIELD(name) std::cout << #name "=" << +record.name << " "
#define RECORD(Type, fields) \
  void Echo##Type(const Bytes& bytes) { \
    const Type record = Decode##Type(bytes); \
    fields; \
    Bytes encoded(Type::kBytes); \
    Encode##Type(record, encoded); \
    PrintHex(encoded); \
  }

RECORD(Descriptor, FIELD(opcode); FIELD(post); FIELD(flags); FIELD(head_size); FIELD(row_first); FIELD(row_count);
       FIELD(trace_slot); FIELD(source); FIELD(source_stride); FIELD(target); FIELD(target_stride); FIELD(key);
       FIELD(value); FIELD(probability); FIELD(tiles); FIELD(tile_offset); FIELD(tile_beats); FIELD(parameter_offset);
       FIELD(parameter_beats); FIELD(score_multiplier); FIELD(score_shift); FIELD(context_shift);
       FIELD(context_numerator); FIELD(peer_tiles_0); FIELD(peer_tiles_1); FIELD(features_before))
RECORD(Command, FIELD(opcode); FIELD(flags); FIELD(row_first); FIELD(row_count); FIELD(await_words); FIELD(source);
       FIELD(source_stride); FIELD(weight); FIELD(weight_stride); FIELD(tiles); FIELD(keys); FIELD(head_size);
       FIELD(shift); FIELD(multiplier); FIELD(row_scale_slot); FIELD(limit_low); FIELD(limit_high);
       FIELD(await_weight); FIELD(await_peer_0); FIELD(await_peer_1))
RECORD(EngineWord, FIELD(address); FIELD(kind))
RECORD(EngineStatus, FIELD(spec_digest); FIELD(error); FIELD(cycles))
RECORD(TileParameter, FIELD(bias); FIELD(multiplier); FIELD(shift))
RECORD(LayernormHeader, FIELD(epsilon); FIELD(features); FIELD(residual_shift); FIELD(output_shift))
RECORD(LayernormFeature, FIELD(offset); FIELD(gain); FIELD(residual_multiplier))
RECORD(Launch, FIELD(magic); FIELD(flags); FIELD(spec_digest); FIELD(program_offset); FIELD(hidden); FIELD(row_blocks);
       FIELD(sequences))
RECORD(LaunchSequence, FIELD(row_first); FIELD(tokens))
RECORD(Status, FIELD(spec_digest); FIELD(error); FIELD(descriptors); FIELD(engine_error);
       FIELD(engine_cycles))

}  // namespace

int main() {
  std::string name, hex;
  while (std::cin >> name >> hex) {
    const Bytes bytes = FromHex(hex);
    if (name == "descriptor") EchoDescriptor(bytes);
    else if (name == "command") EchoCommand(bytes);
    else if (name == "engine_word") EchoEngineWord(bytes);
    else if (name == "engine_status") EchoEngineStatus(bytes);
    else if (name == "tile_parameter") EchoTileParameter(bytes);
    else if (name == "layernorm_header") EchoLayernormHeader(bytes);
    else if (name == "layernorm_feature") EchoLayernormFeature(bytes);
    else if (name == "launch") EchoLaunch(bytes);
    else if (name == "launch_sequence") EchoLaunchSequence(bytes);
    else if (name == "status") EchoStatus(bytes);
    else return 1;
  }
  return 0;
}
