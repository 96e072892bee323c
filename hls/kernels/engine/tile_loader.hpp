// Decoding of tile packets (docs/tile-format.md) into one half of the tile memory, a beat at a time.
#pragma once

#include "memory.hpp"

namespace bertile {

class TileLoader {
 public:
  // Begin a tile.
  void Start() {
#pragma HLS INLINE
    parameter_beats_ = 0;
    weight_beats_ = 0;
    last_packet_ = false;
    groups_ = 0;
    malformed_ = false;
    done_ = false;
  }
  bool done() const { return done_; }
  // The tile is longer than the memory, or has a valid entry behind an invalid one.
  bool malformed() const { return malformed_; }

  void Accept(const Beat& beat, TileBuffer& tile) {
#pragma HLS INLINE
    if (parameter_beats_ < kTileParameterBeats) {
      AcceptParameters(beat, tile);
    } else if (weight_beats_ == 0) {
      AcceptIndices(beat);
    } else {
      AcceptWeights(beat, tile);
    }
    if (parameter_beats_ == kTileParameterBeats && weight_beats_ == 0 && last_packet_) {
      tile.groups = groups_;
      done_ = true;
    }
  }

 private:
  void AcceptParameters(const Beat& beat, TileBuffer& tile) {
#pragma HLS INLINE
    const int per_beat = kPacketBeatBytes / TileParameter::kBytes;
  Parameter_Feature:
    for (int i = 0; i < per_beat; ++i) {
#pragma HLS UNROLL
      tile.parameter[parameter_beats_ * per_beat + i] = DecodeTileParameter(beat.byte, i * TileParameter::kBytes);
    }
    ++parameter_beats_;
  }

  void AcceptIndices(const Beat& beat) {
#pragma HLS INLINE
    int valid = 0;
    bool gap = false;
  Index_Entry:
    for (int i = 0; i < kPacketVectors; ++i) {
#pragma HLS UNROLL
      const uint16_t entry = uint16_t(beat.byte[2 * i] | beat.byte[2 * i + 1] << 8);
      const bool is_valid = (entry >> kPacketValidBit) & 1;
      // Whatever stands behind the last vector: its weights are zero, and input 0 is there in any case.
      index_[i] = is_valid ? entry & ((1 << kPacketIndexBits) - 1) : 0;
      if (is_valid && gap) malformed_ = true;
      if (!is_valid) gap = true;
      valid += is_valid;
      if (i == 0) last_packet_ = (entry >> kPacketLastBit) & 1;
    }
    weight_beats_ = CeilDivide(valid, kPacketVectorsPerBeat);
    next_group_ = 0;
  }

  void AcceptWeights(const Beat& beat, TileBuffer& tile) {
#pragma HLS INLINE
    if (groups_ < kCapacityTileBeats) {
      tile.weight[groups_] = beat;
    Group_Input:
      for (int i = 0; i < kArrayInputs; ++i) {
#pragma HLS UNROLL
        tile.index[groups_][i] = index_[next_group_ * kArrayInputs + i];
      }
      ++groups_;
    } else {
      malformed_ = true;  // taken all the same: the beats behind it belong to the next tile
    }
    ++next_group_;
    --weight_beats_;
  }

  int parameter_beats_ = 0;
  int weight_beats_ = 0;  // still to come of this packet
  int next_group_ = 0;
  int groups_ = 0;
  bool last_packet_ = false;
  bool malformed_ = false;
  bool done_ = true;
  uint16_t index_[kPacketVectors];
};

}  // namespace bertile
