// Installed as libxrt_swemu.so.2 before the system's library of that name, which it links: calls of the C library that
// XRT's sw_emu shim makes come here first (docs/emulation.md, The guard). No code is changed: the shim's own table of
// imported functions is.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "card_log.hpp"
#include "connection.hpp"
#include "imports.hpp"
#include "run_folder.hpp"

namespace bertile {

namespace {

const char kShim[] = "libxrt_swemu.so.2.";
// A message of the shim is at most 8 MiB of data with its fields around it.
const size_t kMessageBytes = (size_t(8) << 20) + 65536;
const int kEndMilliseconds = 1000;
const int kConnectStepMilliseconds = 20;

// What the shim does in this process. Never destroyed: the shim may close cards while the process ends.
struct Shim {
  std::string run_folder;
  int owner = 0;       // process that made the folder
  std::string socket;  // of the card that is opened now, beneath /tmp/..
  std::atomic<int> opened{0};
  std::mutex mutex;
  std::map<int, Connection> connections;  // by descriptor
  std::map<void*, size_t> buffers;
  std::set<pid_t> cards;                  // processes that have not been waited for
};

Shim& TheShim() {
  static Shim& shim = *new Shim;
  return shim;
}

// --- The shim's buffer. alloc_void() drops what realloc() returns, so a buffer must never move: it has room for every
// message from the start. Its two other calls of malloc() are for headers.

void* GuardedMalloc(size_t bytes) { return std::malloc(bytes < kMessageBytes ? kMessageBytes : bytes); }

void* GuardedRealloc(void* buffer, size_t bytes) {
  if (buffer && bytes <= kMessageBytes) return buffer;
  std::fprintf(stderr, "bertile: a message of %zu bytes to the emulated card; the shim's buffer ends here\n", bytes);
  std::abort();
}

// --- Buffers of the host. The shim takes them from posix_memalign() and gives them back with munmap(), of their size as
// it was asked for, which leaves a page of each behind: so they are maps from the start. One it frees is unmapped.

int GuardedMemalign(void** memory, size_t, size_t bytes) {
  void* const map = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return ENOMEM;
  Shim& shim = TheShim();
  std::lock_guard<std::mutex> lock(shim.mutex);
  shim.buffers[map] = bytes;
  *memory = map;
  return 0;
}

bool Forget(void* memory, size_t& bytes) {
  Shim& shim = TheShim();
  std::lock_guard<std::mutex> lock(shim.mutex);
  const auto buffer = shim.buffers.find(memory);
  if (buffer == shim.buffers.end()) return false;
  bytes = buffer->second;
  shim.buffers.erase(buffer);
  return true;
}

int GuardedMunmap(void* memory, size_t bytes) {
  size_t whole = bytes;
  Forget(memory, whole);
  return munmap(memory, whole);
}

void GuardedFree(void* memory) {
  size_t bytes = 0;
  if (memory && Forget(memory, bytes)) {
    munmap(memory, bytes);
  } else {
    std::free(memory);
  }
}

// --- Signals. The shim would have any child's death by a signal, and its own faults, kill the process group.

int GuardedSigaction(int, const struct sigaction*, struct sigaction*) { return 0; }

// --- Where files are. The shim's socket is /tmp/$USER/$EMULATION_SOCKETID; ours is in the run folder.

// Without a card process of ours (dont_run in xrt.ini), where somebody starts one by hand.
char* SocketName(Shim& shim) {
  char* const by_hand = std::getenv(kSocketVariable);
  return shim.socket.empty() && by_hand ? by_hand : &shim.socket[0];
}

char* GuardedGetenv(const char* name) {
  static char up[] = "..";
  if (std::strcmp(name, "USER") == 0) return up;
  if (std::strcmp(name, "EMULATION_SOCKETID") == 0) return SocketName(TheShim());
  if (std::strcmp(name, "SDACCEL_EM_RUN_DIR") == 0) return &TheShim().run_folder[0];
  return std::getenv(name);
}

// --- Time. The shim sleeps for five seconds when it has closed a card.

unsigned GuardedSleep(unsigned) { return 0; }

// --- Card processes.

pid_t GuardedFork() {
  Shim& shim = TheShim();
  const std::string socket = shim.run_folder + "/socket-" + std::to_string(shim.opened++);
  shim.socket = socket.substr(1);
  const pid_t card = fork();
  if (card == 0) {
    setenv(kSocketVariable, socket.c_str(), 1);
    setenv(kRunFolderVariable, shim.run_folder.c_str(), 1);
  }
  if (card > 0) {
    std::lock_guard<std::mutex> lock(shim.mutex);
    shim.cards.insert(card);
  }
  return card;
}

// Waits a moment for a card process to end. As waitpid(): 0 when it has not, -1 when it is not known.
pid_t AwaitEnd(pid_t card, int& status) {
  pid_t ended = 0;
  for (int milliseconds = 0; milliseconds < kEndMilliseconds && ended == 0; ++milliseconds) {
    ended = waitpid(card, &status, WNOHANG);
    if (ended == 0) usleep(1000);
  }
  return ended;
}

// The shim waits for any child of its process group when it has closed a card. Other children are not its own.
pid_t GuardedWaitpid(pid_t, int* status, int) {
  Shim& shim = TheShim();
  std::lock_guard<std::mutex> lock(shim.mutex);
  for (auto card = shim.cards.begin(); card != shim.cards.end();) {
    card = AwaitEnd(*card, *status) == 0 ? std::next(card) : shim.cards.erase(card);
  }
  return 1;
}

// Whether there are cards, and all of them have ended.
bool AllEnded(Shim& shim) {
  std::lock_guard<std::mutex> lock(shim.mutex);
  for (const pid_t card : shim.cards) {
    siginfo_t state = {};
    if (waitid(P_PID, id_t(card), &state, WEXITED | WNOHANG | WNOWAIT) == 0 && state.si_pid == 0) return false;
  }
  return !shim.cards.empty();
}

// Connects to the shim's socket, and closes it: the shim has a card that is gone.
void ConnectNobody(int listening) {
  sockaddr_un address = {};
  socklen_t bytes = sizeof(address);
  getsockname(listening, reinterpret_cast<sockaddr*>(&address), &bytes);
  const int nobody = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(nobody, reinterpret_cast<sockaddr*>(&address), bytes)) std::perror("bertile: emulated card");
  close(nobody);
}

// The shim waits five minutes for its card to connect, whether there is still one or not.
int GuardedSelect(int count, fd_set*, fd_set*, fd_set*, timeval* timeout) {
  const int listening = count - 1;
  for (int64_t left = timeout->tv_sec * 1000; left > 0; left -= kConnectStepMilliseconds) {
    pollfd descriptor = {listening, POLLIN, 0};
    if (poll(&descriptor, 1, kConnectStepMilliseconds) > 0) return 1;
    if (AllEnded(TheShim())) ConnectNobody(listening);
  }
  return 0;
}

// Says why a card is gone, unless it has said so itself.
void LogDeath(Shim& shim) {
  NameHost(getpid());
  for (auto card = shim.cards.begin(); card != shim.cards.end();) {
    int status = 0;
    const pid_t ended = AwaitEnd(*card, status);
    card = ended == 0 ? std::next(card) : shim.cards.erase(card);
    if (ended == 0 || (ended > 0 && WIFEXITED(status) && WEXITSTATUS(status) == kCardFaulted)) continue;
    if (ended > 0 && WIFSIGNALED(status)) {
      LogCard("card lost: its process was killed by signal " + std::to_string(WTERMSIG(status)));
    } else {
      LogCard("card lost: its process has ended");
    }
  }
}

// --- The socket. When the card is gone, its slot answers: the shim itself would read at end of file for ever.

Connection& ConnectionOf(Shim& shim, int descriptor) {
  std::lock_guard<std::mutex> lock(shim.mutex);
  const auto found = shim.connections.find(descriptor);
  if (found != shim.connections.end()) return found->second;
  fcntl(descriptor, F_SETFD, FD_CLOEXEC);  // a program that the host starts would keep the card alive
  return shim.connections[descriptor];
}

ssize_t GuardedWrite(int descriptor, const void* data, size_t bytes) {
  Connection& connection = ConnectionOf(TheShim(), descriptor);
  ssize_t sent = ssize_t(bytes);
  if (!connection.gone()) {
    sent = send(descriptor, data, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR && errno != EAGAIN) {
      connection.Lose();
      sent = ssize_t(bytes);
    }
  }
  if (sent > 0) connection.Sent(data, size_t(sent));
  return sent;
}

ssize_t GuardedRead(int descriptor, void* data, size_t bytes) {
  Shim& shim = TheShim();
  Connection& connection = ConnectionOf(shim, descriptor);
  if (!connection.gone()) {
    const ssize_t received = recv(descriptor, data, bytes, 0);
    if (received > 0) {
      connection.Received(size_t(received));
      return received;
    }
    if (received < 0 && (errno == EINTR || errno == EAGAIN)) return received;
    connection.Lose();
  }
  if (connection.TellOnce()) {
    std::lock_guard<std::mutex> lock(shim.mutex);
    LogDeath(shim);
  }
  return ssize_t(connection.AnswerGone(static_cast<uint8_t*>(data), bytes));
}

int GuardedClose(int descriptor) {
  Shim& shim = TheShim();
  {
    std::lock_guard<std::mutex> lock(shim.mutex);
    shim.connections.erase(descriptor);
  }
  return close(descriptor);
}

// --- Installation.

const Import kImports[] = {
    {"malloc", reinterpret_cast<void*>(GuardedMalloc)},       {"realloc", reinterpret_cast<void*>(GuardedRealloc)},
    {"sigaction", reinterpret_cast<void*>(GuardedSigaction)}, {"getenv", reinterpret_cast<void*>(GuardedGetenv)},
    {"fork", reinterpret_cast<void*>(GuardedFork)},           {"waitpid", reinterpret_cast<void*>(GuardedWaitpid)},
    {"write", reinterpret_cast<void*>(GuardedWrite)},         {"read", reinterpret_cast<void*>(GuardedRead)},
    {"close", reinterpret_cast<void*>(GuardedClose)},         {"sleep", reinterpret_cast<void*>(GuardedSleep)},
    {"select", reinterpret_cast<void*>(GuardedSelect)},       {"free", reinterpret_cast<void*>(GuardedFree)},
    {"munmap", reinterpret_cast<void*>(GuardedMunmap)},
    {"posix_memalign", reinterpret_cast<void*>(GuardedMemalign)},
};

[[noreturn]] void Refuse(const std::string& why) {
  RemoveRunFolder(TheShim().run_folder);
  std::fprintf(stderr, "bertile: no emulated card: %s\n", why.c_str());
  std::_Exit(1);
}

__attribute__((constructor)) void Install() {
  Shim& shim = TheShim();
  shim.owner = getpid();
  shim.run_folder = MakeRunFolder();
  if (shim.run_folder.empty()) Refuse(std::string("no folder for temporary files: ") + std::strerror(errno));
  std::string missing;
  for (const Import& import : kImports) {
    if (!RedirectImport(kShim, import)) missing += std::string(" ") + import.name;
  }
  if (!missing.empty()) Refuse("this libxrt_swemu.so.2 cannot be guarded, it does not import" + missing);
}

__attribute__((destructor)) void Remove() {
  if (TheShim().owner == getpid()) RemoveRunFolder(TheShim().run_folder);
}

}  // namespace

}  // namespace bertile
