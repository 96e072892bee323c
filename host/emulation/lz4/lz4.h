// The two functions of LZ4 that Verilator's FST writer calls, so that waves need no further package. Blocks of the LZ4
// format, found with one hash table: a little larger than the library's.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace lz4_block {

const int kHashBits = 13;
const int kMinMatch = 4;
const int kMaxDistance = 65535;
const int kLastLiterals = 5;   // a block ends in at least so many literals,
const int kLastMatchGap = 12;  // and its last match starts at least so far before its end

inline uint32_t Read32(const uint8_t* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

// What of a length does not fit its four bits of the token.
inline uint8_t* PutLength(uint8_t* out, int length) {
  for (length -= 15; length >= 255; length -= 255) *out++ = 255;
  if (length >= 0) *out++ = uint8_t(length);
  return out;
}

// Literals, then a match; match 0: the end of the block.
inline uint8_t* PutSequence(uint8_t* out, const uint8_t* literals, int count, int distance, int match) {
  const int extra = match ? match - kMinMatch : 0;
  *out++ = uint8_t((count < 15 ? count : 15) << 4 | (extra < 15 ? extra : 15));
  out = PutLength(out, count);
  if (count) std::memcpy(out, literals, size_t(count));
  out += count;
  if (match == 0) return out;
  *out++ = uint8_t(distance);
  *out++ = uint8_t(distance >> 8);
  return PutLength(out, extra);
}

}  // namespace lz4_block

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

// Needs LZ4_compressBound(size) bytes at `target`.
inline int LZ4_compress_default(const char* source, char* target, int size, int capacity) {
  using namespace lz4_block;
  if (capacity < LZ4_compressBound(size)) return 0;
  const uint8_t* const in = reinterpret_cast<const uint8_t*>(source);
  uint8_t* out = reinterpret_cast<uint8_t*>(target);
  std::vector<int> last(size_t(1) << kHashBits, -1);
  int literals = 0;
  for (int at = 0; at + kLastMatchGap <= size;) {
    int& slot = last[(Read32(in + at) * 2654435761u) >> (32 - kHashBits)];
    const int candidate = slot;
    slot = at;
    if (candidate < 0 || at - candidate > kMaxDistance || Read32(in + candidate) != Read32(in + at)) {
      ++at;
      continue;
    }
    int match = kMinMatch;
    while (at + match < size - kLastLiterals && in[candidate + match] == in[at + match]) ++match;
    out = PutSequence(out, in + literals, at - literals, at - candidate, match);
    at += match;
    literals = at;
  }
  out = PutSequence(out, in + literals, size - literals, 0, 0);
  return int(out - reinterpret_cast<uint8_t*>(target));
}
