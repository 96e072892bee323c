#include "simulation.hpp"

namespace bertile {

namespace {

// A stage holds its on-chip memories in local arrays: up to 3 MiB of activation memory.
const size_t kStackBytes = size_t(64) << 20;
const int kSpins = 256;

struct Start {
  Simulation* simulation;
  std::string name;
  std::function<void()> body;
};

void* Run(void* argument) {
  std::unique_ptr<Start> start(static_cast<Start*>(argument));
  Simulation::Current() = start->simulation;
  try {
    start->body();
  } catch (const SimulationStopped&) {
  } catch (const std::exception& error) {
    start->simulation->Fail(start->name + ": " + error.what());
  }
  return nullptr;
}

pthread_t StartThread(Simulation* simulation, const std::string& name, std::function<void()> body) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread;
  std::unique_ptr<Start> start(new Start{simulation, name, std::move(body)});
  const int error = pthread_create(&thread, &attributes, Run, start.get());
  pthread_attr_destroy(&attributes);
  if (error) throw std::runtime_error("cannot start a thread for stage " + name);
  start.release();
  return thread;
}

}  // namespace

Simulation*& Simulation::Current() {
  static thread_local Simulation* current = nullptr;
  return current;
}

Simulation::Simulation(double deadlock_seconds) : deadlock_seconds_(deadlock_seconds), previous_(Current()) {
  Current() = this;
  watchdog_ = StartThread(this, "watchdog", [this] { Watch(); });
}

Simulation::~Simulation() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    finished_ = true;
  }
  wake_.notify_all();
  pthread_join(watchdog_, nullptr);
  Current() = previous_;
}

void Simulation::Add(StreamBase* stream) {
  std::lock_guard<std::mutex> lock(mutex_);
  streams_.push_back(stream);
}

void Simulation::Remove(StreamBase* stream) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < streams_.size(); ++i) {
    if (streams_[i] != stream) continue;
    streams_.erase(streams_.begin() + i);
    return;
  }
}

void Simulation::Fail(const std::string& why) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (error_.empty()) error_ = why;
  stopped_.store(true);
}

std::string Simulation::error() {
  std::lock_guard<std::mutex> lock(mutex_);
  return error_;
}

// A deadlock is: stages wait, and nothing has moved on any stream for the given time.
void Simulation::Watch() {
  typedef std::chrono::steady_clock Clock;
  uint64_t last = 0;
  Clock::time_point since = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  while (!finished_ && !stopped()) {
    wake_.wait_for(lock, std::chrono::milliseconds(50));
    uint64_t transfers = 0;
    std::string waiting;
    for (const StreamBase* stream : streams_) {
      transfers += stream->transfers();
      const std::string state = stream->Waiting();
      if (!state.empty()) waiting += (waiting.empty() ? "" : ", ") + state;
    }
    if (transfers != last || waiting.empty()) {
      last = transfers;
      since = Clock::now();
    } else if (std::chrono::duration<double>(Clock::now() - since).count() > deadlock_seconds_) {
      error_ = "deadlock: nothing moves; waiting: " + waiting;
      stopped_.store(true);
    }
  }
}

StreamBase::StreamBase(const char* name, int depth)
    : name_(name), depth_(depth), simulation_(Simulation::Current()) {
  if (!simulation_) throw std::logic_error("a stream outside a simulation");
  simulation_->Add(this);
}

// On the card a FIFO keeps what a launch left in it, and the next launch would read it.
StreamBase::~StreamBase() {
  simulation_->Remove(this);
  if (!simulation_->stopped() && !empty()) simulation_->Fail("stream " + name_ + " is not empty at the end");
}

std::string StreamBase::Waiting() const {
  if (reader_waits_.load()) return name_ + " (empty)";
  if (writer_waits_.load()) return name_ + " (full)";
  return "";
}

void StreamBase::Wait(bool for_data) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (!(for_data ? empty() : full())) return;
  }
  std::unique_lock<std::mutex> lock(mutex_);
  std::atomic<bool>& flag = for_data ? reader_waits_ : writer_waits_;
  flag.store(true);
  while (for_data ? written_.load() == read_.load() : written_.load() - read_.load() >= depth_) {
    if (simulation_->stopped()) throw SimulationStopped();
    changed_.wait_for(lock, std::chrono::milliseconds(50));
  }
  flag.store(false);
}

void StreamBase::Notify() {
  std::lock_guard<std::mutex> lock(mutex_);
  changed_.notify_one();
}

void Dataflow::Launch(const char* name, std::function<void()> stage) {
  threads_.push_back(StartThread(simulation_, name, std::move(stage)));
}

void Dataflow::Join() {
  for (pthread_t thread : threads_) pthread_join(thread, nullptr);
  threads_.clear();
}

}  // namespace bertile
