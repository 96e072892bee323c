// Streams and dataflow regions: hls::stream under Vitis HLS, bounded blocking queues and one thread a stage elsewhere.
//
// The standard C-simulation stream never blocks and never fills, so a design that deadlocks on the card passes with it.
// These block when full or empty, and a watchdog turns a standstill into an error that names the waiting streams.
#pragma once

#ifdef __SYNTHESIS__

#include <hls_stream.h>

namespace bertile {
template <typename T, int Depth = 0>
using Stream = hls::stream<T, Depth>;
}  // namespace bertile

#define BERTILE_DATAFLOW_BEGIN()
#define BERTILE_STAGE(function, ...) function(__VA_ARGS__)
#define BERTILE_DATAFLOW_END()

#else

#include "simulation.hpp"

#define BERTILE_DATAFLOW_BEGIN() ::bertile::Dataflow dataflow_region_
#define BERTILE_STAGE(function, ...) dataflow_region_.Launch(#function, [&] { function(__VA_ARGS__); })
#define BERTILE_DATAFLOW_END() dataflow_region_.Join()

#endif
