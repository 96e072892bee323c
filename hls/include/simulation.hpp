// Simulation only: bounded blocking streams, a thread a dataflow stage, and a watchdog for deadlocks.
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace bertile {

// Thrown in every waiting stage once a simulation has failed.
struct SimulationStopped : std::runtime_error {
  SimulationStopped() : std::runtime_error("simulation stopped") {}
};

class StreamBase;

// What the stages and streams of one run share. Streams and stages created on a thread belong to its current simulation.
class Simulation {
 public:
  explicit Simulation(double deadlock_seconds);
  ~Simulation();
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;

  static Simulation*& Current();

  void Add(StreamBase* stream);
  void Remove(StreamBase* stream);
  void Fail(const std::string& why);
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }
  std::string error();

 private:
  void Watch();

  const double deadlock_seconds_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<StreamBase*> streams_;
  std::string error_;
  std::atomic<bool> stopped_{false};
  bool finished_ = false;
  Simulation* const previous_;
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
  bool reader_waits() const { return reader_waits_.load(); }
  bool empty() const { return written_.load(std::memory_order_acquire) == read_.load(std::memory_order_relaxed); }
  bool full() const { return written_.load(std::memory_order_relaxed) - read_.load(std::memory_order_acquire) >= depth_; }

 protected:
  void Wait(bool for_data);
  void Notify();

  const std::string name_;
  const uint64_t depth_;
  std::atomic<uint64_t> written_{0};
  std::atomic<uint64_t> read_{0};
  std::atomic<bool> reader_waits_{false};
  std::atomic<bool> writer_waits_{false};

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
    if (empty()) return false;
    value = Take();
    return true;
  }
  void write(const T& value) {
    if (full()) Wait(false);
    const uint64_t position = written_.load(std::memory_order_relaxed);
    ring_[position % depth_] = value;
    written_.store(position + 1);
    if (reader_waits_.load()) Notify();
  }

 protected:
  Stream(const char* name, int depth) : StreamBase(name, depth), ring_(new T[depth]) {}

 private:
  T Take() {
    const uint64_t position = read_.load(std::memory_order_relaxed);
    T value = ring_[position % depth_];
    read_.store(position + 1);
    if (writer_waits_.load()) Notify();
    return value;
  }
  std::unique_ptr<T[]> ring_;
};

template <typename T, int Depth>
class Stream : public Stream<T, 0> {
 public:
  explicit Stream(const char* name) : Stream<T, 0>(name, Depth) {}
};

// The stages of one dataflow region.
class Dataflow {
 public:
  Dataflow() : simulation_(Simulation::Current()) {}
  ~Dataflow() { Join(); }
  void Launch(const char* name, std::function<void()> stage);
  void Join();

 private:
  Simulation* const simulation_;
  std::vector<pthread_t> threads_;
};

}  // namespace bertile
