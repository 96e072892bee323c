#include "simulation.hpp"

#include <unistd.h>

namespace bertile {

namespace {

// A stage holds its on-chip memories in local arrays: up to 3 MiB of activation memory.
const size_t kStackBytes = size_t(64) << 20;
const int kSpins = 256;

struct Start {
  Simulation* simulation;
  std::function<void()> body;
};

void* Run(void* argument) {
  std::unique_ptr<Start> start(static_cast<Start*>(argument));
  Simulation::Current() = start->simulation;
  start->body();
  return nullptr;
}

pthread_t StartThread(Simulation* simulation, const std::string& name, std::function<void()> body) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread;
  std::unique_ptr<Start> start(new Start{simulation, std::move(body)});
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

Simulation::Simulation(double deadlock_seconds, const TimingModel* timing)
    : deadlock_seconds_(deadlock_seconds), timing_(timing), previous_(Current()) {
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

std::string Simulation::WaitingLocked() const {
  std::string waiting;
  for (const StreamBase* stream : streams_) {
    const std::string state = stream->Waiting();
    if (!state.empty()) waiting += (waiting.empty() ? "" : ", ") + state;
  }
  return waiting;
}

std::string Simulation::Waiting() {
  std::lock_guard<std::mutex> lock(mutex_);
  return WaitingLocked();
}

void Simulation::Leave() {
  const bool leaves_one = runnable_.fetch_sub(1) == 2;
  if (!leaves_one || !awaits_quiescence_.load()) return;
  std::lock_guard<std::mutex> lock(quiet_mutex_);
  quiet_.notify_one();
}

void Simulation::AwaitQuiescence() {
  if (stopped()) throw SimulationStopped();
  for (int spin = 0; spin < kSpins; ++spin) {
    if (runnable_.load() == 1) return;
  }
  std::unique_lock<std::mutex> lock(quiet_mutex_);
  awaits_quiescence_.store(true);
  while (runnable_.load() != 1 && !stopped()) quiet_.wait_for(lock, std::chrono::milliseconds(50));
  awaits_quiescence_.store(false);
  if (stopped()) throw SimulationStopped();
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
    for (const StreamBase* stream : streams_) transfers += stream->transfers();
    const std::string waiting = WaitingLocked();
    if (transfers != last || waiting.empty()) {
      last = transfers;
      since = Clock::now();
    } else if (std::chrono::duration<double>(Clock::now() - since).count() > deadlock_seconds_) {
      error_ = "deadlock: nothing moves; waiting: " + waiting;
      stopped_.store(true);
    }
  }
}

namespace {

StreamTimes* TimesOf(const Simulation* simulation, int depth) {
  if (!simulation) throw std::logic_error("a stream outside a simulation");
  return simulation->timing() ? new StreamTimes(uint64_t(depth)) : nullptr;
}

}  // namespace

StreamBase::StreamBase(const char* name, int depth)
    : name_(name), depth_(depth), times_(TimesOf(Simulation::Current(), depth)), simulation_(Simulation::Current()) {
  simulation_->Add(this);
}

// On the card a FIFO keeps what a launch left in it, and the next launch would read it.
StreamBase::~StreamBase() {
  simulation_->Remove(this);
  if (!simulation_->stopped() && !empty()) simulation_->Fail("stream " + name_ + " is not empty at the end");
}

std::string StreamBase::Waiting() const {
  if (reader_waits()) return name_ + " (empty)";
  if (writer_waits_.load()) return name_ + " (full)";
  return "";
}

void StreamBase::Wait(bool for_data) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (!(for_data ? empty() : full())) return;
  }
  std::unique_lock<std::mutex> lock(mutex_);
  std::atomic<bool>& waits = for_data ? reader_waits_ : writer_waits_;
  waits.store(true);
  if (!Blocked(for_data)) {
    waits.store(false);
    return;
  }
  simulation_->Leave();
  while (waits.load()) {
    if (simulation_->stopped()) {
      waits.store(false);
      simulation_->Enter();
      throw SimulationStopped();
    }
    changed_.wait_for(lock, std::chrono::milliseconds(50));
  }
}

void AwaitEntry(StreamBase& first, std::initializer_list<const StreamBase*> streams) {
  const auto nothing = [&] {
    for (const StreamBase* stream : streams) {
      if (!stream->empty()) return false;
    }
    return true;
  };
  for (int spin = 0; spin < kSpins; ++spin) {
    if (!nothing()) return;
  }
  first.SetPolled(true);
  while (nothing()) {
    if (Simulation::Current()->stopped()) {
      first.SetPolled(false);
      throw SimulationStopped();
    }
    usleep(1);
  }
  first.SetPolled(false);
}

// In one order with the flags of who waits.
bool StreamBase::Blocked(bool for_data) const {
  const uint64_t entries = written_.load() - read_.load();
  return for_data ? entries == 0 : entries >= depth_;
}

// The caller saw somebody wait, which may be over by now, and the next wait not.
void StreamBase::Wake(bool for_data) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::atomic<bool>& waits = for_data ? reader_waits_ : writer_waits_;
  if (!waits.load() || Blocked(for_data)) return;
  waits.store(false);
  simulation_->Enter();
  changed_.notify_one();
}

void StreamBase::StampRead(uint64_t slot) {
  StageClock& clock = *StageClock::Current();
  clock.Reach(times_->readable[slot]);
  clock.Reach(times_->next_read);
  times_->next_read = clock.now() + 1;
  times_->writable[slot] = clock.now() + 1 + crossing_;
}

void StreamBase::StampWrite(uint64_t slot) {
  StageClock& clock = *StageClock::Current();
  clock.Reach(times_->writable[slot]);
  clock.Reach(times_->next_write);
  times_->next_write = clock.now() + 1;
  times_->readable[slot] = clock.now() + clock.latency() + crossing_;
}

// Whether an entry is there would depend on the scheduling of threads.
void StreamBase::RefuseTimed() const { throw std::logic_error("read_nb of " + name_ + " in a timed simulation"); }

StageClock::StageClock(const TimingModel& model, const std::string& stage, uint64_t start)
    : model_(model), stage_(stage), now_(start) {
  const auto entry = model.latency.find(stage);
  if (entry != model.latency.end()) latency_ = entry->second;
}

StageClock*& StageClock::Current() {
  static thread_local StageClock* current = nullptr;
  return current;
}

uint64_t StageClock::latency() const {
  if (latency_ == 0) throw std::runtime_error("the timing model has no latency of this stage, or 0");
  return latency_;
}

// The beat is there, or taken, when the bus has carried it.
void StageClock::TransferMemory(int bytes) {
  const uint64_t start = now_ << kBusBits;
  if (memory_free_ < start) memory_free_ = start;
  memory_free_ += uint64_t(bytes / model_.memory_bytes_per_cycle * (1 << kBusBits) + 0.5);
  Reach(memory_free_ >> kBusBits);
}

void Dataflow::Launch(const char* name, std::function<void()> stage) {
  const StageClock* parent = StageClock::Current();
  const uint64_t start = parent ? parent->now() : 0;
  const std::string label(name);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++running_;
  }
  simulation_->Enter();
  try {
    threads_.push_back(StartThread(simulation_, label, [=] { RunStage(label, stage, start); }));
  } catch (...) {
    End(start);
    throw;
  }
}

void Dataflow::RunStage(const std::string& name, const std::function<void()>& stage, uint64_t start) {
  uint64_t end = start;
  try {
    if (const TimingModel* model = simulation_->timing()) {
      StageClock clock(*model, name, start);
      StageClock::Current() = &clock;
      stage();
      end = clock.now();
    } else {
      stage();
    }
  } catch (const SimulationStopped&) {
  } catch (const std::exception& error) {
    simulation_->Fail(name + ": " + error.what());
  }
  End(end);
}

void Dataflow::End(uint64_t cycle) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (cycle > last_cycle_) last_cycle_ = cycle;
  if (--running_ == 0 && joins_) {
    joins_ = false;
    simulation_->Enter();
    ended_.notify_one();
  }
  simulation_->Leave();
}

void Dataflow::Join() {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    joins_ = running_ > 0;
    if (joins_) simulation_->Leave();
    while (joins_) ended_.wait(lock);
  }
  for (pthread_t thread : threads_) pthread_join(thread, nullptr);
  threads_.clear();
  if (StageClock* clock = StageClock::Current()) clock->Reach(last_cycle_);
}

}  // namespace bertile
