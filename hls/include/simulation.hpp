// Simulation only: bounded blocking streams, a thread a dataflow stage, and a watchdog for deadlocks. With a timing
// model it counts clock cycles, too (timing.hpp).
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "timing.hpp"

namespace bertile {

// Thrown in every waiting stage once a simulation has failed.
struct SimulationStopped : std::runtime_error {
  SimulationStopped() : std::runtime_error("simulation stopped") {}
};

class StreamBase;

// What the stages and streams of one run share. Streams and stages created on a thread belong to its current simulation.
class Simulation {
 public:
  // Timed when there is a model, which must outlive it.
  explicit Simulation(double deadlock_seconds, const TimingModel* timing = nullptr);
  ~Simulation();
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;

  static Simulation*& Current();

  void Add(StreamBase* stream);
  void Remove(StreamBase* stream);
  void Fail(const std::string& why);
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }
  std::string error();
  const TimingModel* timing() const { return timing_; }
  std::string Waiting();  // the streams at which stages wait

  // Threads that may still do something. Who starts or wakes one counts it, so the number never drops too early.
  void Enter() { runnable_.fetch_add(1); }
  void Leave();
  // Until every thread but the caller waits for a stream or has ended: nothing happens unless the caller does it.
  void AwaitQuiescence();

 private:
  void Watch();
  std::string WaitingLocked() const;

  const double deadlock_seconds_;
  const TimingModel* const timing_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<StreamBase*> streams_;
  std::string error_;
  std::atomic<bool> stopped_{false};
  bool finished_ = false;
  Simulation* const previous_;
  std::atomic<int> runnable_{1};  // who made it
  std::atomic<bool> awaits_quiescence_{false};
  std::mutex quiet_mutex_;
  std::condition_variable quiet_;
  pthread_t watchdog_;
};

// Position counters and waiting, whatever the element type.
class StreamBase {
 public:
  StreamBase(const char* name, int depth);
  ~StreamBase();
  StreamBase(const StreamBase&) = delete;
  StreamBase& operator=(const StreamBase&) = delete;

  uint64_t transfers() const { return written_.load() + read_.load(); }
  std::string Waiting() const;  // "name (empty)", "name (full)" or ""
  bool reader_waits() const { return reader_waits_.load() || polled_.load(); }
  bool empty() const { return written_.load(std::memory_order_acquire) == read_.load(std::memory_order_relaxed); }
  bool full() const { return written_.load(std::memory_order_relaxed) - read_.load(std::memory_order_acquire) >= depth_; }
  void SetPolled(bool polled) { polled_.store(polled); }
  // Timed: cycles that an entry, or the room for one, takes besides the latency of the stage.
  void SetCrossing(uint64_t cycles) { crossing_ = cycles; }

 protected:
  void Wait(bool for_data);
  void Wake(bool for_data);
  void StampRead(uint64_t slot);   // moves the clock of the reading stage
  void StampWrite(uint64_t slot);  // and of the writing one
  void RefuseTimed() const;
  bool Blocked(bool for_data) const;

  const std::string name_;
  const uint64_t depth_;
  std::atomic<uint64_t> written_{0};
  std::atomic<uint64_t> read_{0};
  std::atomic<bool> reader_waits_{false};
  std::atomic<bool> writer_waits_{false};
  std::atomic<bool> polled_{false};  // its reader waits, for this stream or for others
  const std::unique_ptr<StreamTimes> times_;  // null: untimed
  uint64_t crossing_ = 0;

 private:
  Simulation* const simulation_;
  std::mutex mutex_;
  std::condition_variable changed_;
};

template <typename T, int Depth = 0>
class Stream;

// One producer, one consumer. Stage functions take Stream<T>&, whatever the depth.
template <typename T>
class Stream<T, 0> : public StreamBase {
 public:
  T read() {
    if (empty()) Wait(true);
    return Take();
  }
  bool read_nb(T& value) {
    if (times_) RefuseTimed();
    if (empty()) return false;
    value = Take();
    return true;
  }
  void write(const T& value) {
    if (full()) Wait(false);
    const uint64_t slot = written_.load(std::memory_order_relaxed) % depth_;
    if (times_) StampWrite(slot);
    Put(value, slot);
  }

  // For a stage that keeps its own time (clocked.hpp). When the next entry can be read, and the next one sent; false
  // when there is none, or no slot.
  bool HeadTime(uint64_t& cycle) const {
    if (empty()) return false;
    cycle = times_->readable[read_.load(std::memory_order_relaxed) % depth_];
    return true;
  }
  bool RoomTime(uint64_t& cycle) const {
    if (full()) return false;
    cycle = times_->writable[written_.load(std::memory_order_relaxed) % depth_];
    return true;
  }
  const T& Head() const { return ring_[read_.load(std::memory_order_relaxed) % depth_]; }
  T TakeAt(uint64_t writable) {
    times_->writable[read_.load(std::memory_order_relaxed) % depth_] = writable;
    return Pull();
  }
  void PutAt(const T& value, uint64_t readable) {
    const uint64_t slot = written_.load(std::memory_order_relaxed) % depth_;
    times_->readable[slot] = readable;
    Put(value, slot);
  }

 protected:
  Stream(const char* name, int depth) : StreamBase(name, depth), ring_(new T[depth]) {}

 private:
  T Take() {
    if (times_) StampRead(read_.load(std::memory_order_relaxed) % depth_);
    return Pull();
  }
  T Pull() {
    const uint64_t position = read_.load(std::memory_order_relaxed);
    T value = ring_[position % depth_];
    read_.store(position + 1);
    if (writer_waits_.load()) Wake(false);
    return value;
  }
  void Put(const T& value, uint64_t slot) {
    ring_[slot] = value;
    written_.store(written_.load(std::memory_order_relaxed) + 1);
    if (reader_waits_.load()) Wake(true);
  }
  std::unique_ptr<T[]> ring_;
};

template <typename T, int Depth>
class Stream : public Stream<T, 0> {
 public:
  explicit Stream(const char* name) : Stream<T, 0>(name, Depth) {}
};

// Until one of several streams has an entry. The first is the one that the caller cannot go on without.
void AwaitEntry(StreamBase& first, std::initializer_list<const StreamBase*> streams);

template <typename First, typename... Streams>
void AwaitFirst(First& first, const Streams&... others) {
  AwaitEntry(first, {&first, &others...});
}

// The stages of one dataflow region. In a timed simulation they start at the clock of their parent, and this goes on
// when the last of them has ended.
class Dataflow {
 public:
  Dataflow() : simulation_(Simulation::Current()) {}
  ~Dataflow() { Join(); }
  void Launch(const char* name, std::function<void()> stage);
  void Join();
  uint64_t last_cycle() const { return last_cycle_; }  // of all stages, once joined

 private:
  void RunStage(const std::string& name, const std::function<void()>& stage, uint64_t start);
  void End(uint64_t cycle);

  Simulation* const simulation_;
  std::vector<pthread_t> threads_;
  std::mutex mutex_;
  std::condition_variable ended_;
  int running_ = 0;
  bool joins_ = false;
  uint64_t last_cycle_ = 0;
};

}  // namespace bertile
