#pragma once

#include "stream.hpp"
#include "types.hpp"

extern "C" {
// One launch of the whole encoder (docs/program.md). Memory: program, weights and parameters as packed; launch: header
// and sequence table; input_words [row_blocks][hidden]; output_words the same, once a trace slot when tracing; status: a beat.
// In a cooperative launch each of the units runs a program of its own, over its part of the features; words and partial
// sums go to the others.
void bertile_encoder(const bertile::Beat* program, const bertile::Beat* weights, const bertile::Beat* parameters,
                     const bertile::Beat* launch, const bertile::Word* input_words, bertile::Word* output_words,
                     bertile::Beat* status, bertile::Stream<bertile::Beat>& engine_commands,
                     bertile::Stream<bertile::Beat>& engine_tiles, bertile::Stream<bertile::Beat>& engine_words,
                     bertile::Stream<bertile::WideWord>& engine_results,
                     bertile::Stream<bertile::Beat>& words_to_0, bertile::Stream<bertile::Beat>& words_to_1,
                     bertile::Stream<bertile::Beat>& moments_to_0, bertile::Stream<bertile::Beat>& moments_to_1,
                     bertile::Stream<bertile::Beat>& moments_from_0, bertile::Stream<bertile::Beat>& moments_from_1);
}
