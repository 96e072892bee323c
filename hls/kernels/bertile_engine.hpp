#pragma once

#include "stream.hpp"
#include "types.hpp"

extern "C" {
// The engine: free-running, streams only. It executes the commands of one launch up to `halt`, answers that with its
// status (engine_status), then starts anew.
void bertile_engine(bertile::Stream<bertile::Beat>& commands, bertile::Stream<bertile::Beat>& tiles,
                    bertile::Stream<bertile::Beat>& words, bertile::Stream<bertile::WideWord>& results);
}
