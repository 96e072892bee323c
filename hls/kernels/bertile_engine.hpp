#pragma once

#include "stream.hpp"
#include "types.hpp"

extern "C" {
// The engine: free-running, streams only. It executes the commands of one launch up to `halt`, answers that with its
// status (engine_status), then starts anew. Words come from this unit's encoder, and from those of the other units.
void bertile_engine(bertile::Stream<bertile::Beat>& commands, bertile::Stream<bertile::Beat>& tiles,
                    bertile::Stream<bertile::Beat>& words, bertile::Stream<bertile::Beat>& words_from_0,
                    bertile::Stream<bertile::Beat>& words_from_1, bertile::Stream<bertile::WideWord>& results);
}
