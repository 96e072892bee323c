// Streams and dataflow regions: hls::stream under Vitis HLS, bounded blocking queues and one thread a stage elsewhere.
//
// The standard C-simulation stream never blocks and never fills, so a design that deadlocks on the card passes with it.
// These block when full or empty, and a watchdog turns a standstill into an error that names the waiting streams.
//
// The cycle macros tell a timed simulation what streams do not show; without one they do nothing.
#pragma once

#ifdef __SYNTHESIS__

#include <hls_stream.h>

namespace bertile {
template <typename T, int Depth = 0>
using Stream = hls::stream<T, Depth>;

// A loop that polls streams waits in its own way.
template <typename... Streams>
inline void AwaitFirst(Streams&...) {}
}  // namespace bertile

#define BERTILE_DATAFLOW_BEGIN()
#define BERTILE_STAGE(function, ...) function(__VA_ARGS__)
#define BERTILE_DATAFLOW_END()

#define BERTILE_CYCLES(count)
#define BERTILE_DRAIN()
#define BERTILE_MEMORY_REQUEST()
#define BERTILE_MEMORY_TRANSFER(bytes)

#else

#include "simulation.hpp"

#define BERTILE_DATAFLOW_BEGIN() ::bertile::Dataflow dataflow_region_
#define BERTILE_STAGE(function, ...) dataflow_region_.Launch(#function, [&] { function(__VA_ARGS__); })
#define BERTILE_DATAFLOW_END() dataflow_region_.Join()

#define BERTILE_ON_CLOCK(action)                                                    \
  do {                                                                              \
    ::bertile::StageClock* const stage_clock_ = ::bertile::StageClock::Current();   \
    if (stage_clock_) stage_clock_->action;                                         \
  } while (false)
// A loop of `count` iterations that touches no stream.
#define BERTILE_CYCLES(count) BERTILE_ON_CLOCK(Spend(count))
// The pipeline of a loop runs empty before what follows the loop starts.
#define BERTILE_DRAIN() BERTILE_ON_CLOCK(Drain())
// A burst is asked for, or its last write is acknowledged; and one beat of it.
#define BERTILE_MEMORY_REQUEST() BERTILE_ON_CLOCK(RequestMemory())
#define BERTILE_MEMORY_TRANSFER(bytes) BERTILE_ON_CLOCK(TransferMemory(bytes))

#endif
