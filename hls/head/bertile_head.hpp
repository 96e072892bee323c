#pragma once

#include "types.hpp"

extern "C" {
// Pools each sequence of a launch and classifies it (docs/head.md). Memory: launch, the encoder's launch table; words,
// the encoder's output [row_blocks][hidden]; logits, a beat of 32-bit integers a sequence; status, a beat.
void bertile_head(const bertile::Beat* launch, const bertile::Word* words, bertile::Beat* logits,
                  bertile::Beat* status);
}
