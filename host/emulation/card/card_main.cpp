// The emulated card: the device process that XRT's sw_emu shim starts under the name genericpciemodel.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>

#include "card_log.hpp"
#include "card_server.hpp"
#include "run_folder.hpp"

namespace bertile {

namespace {

const int kConnectMilliseconds = 10000;

const CardServer* served = nullptr;

// A kernel has touched what is no buffer, or has crashed. The host's end of the socket sees that the card is gone.
void Die(int number, siginfo_t* signal, void*) {
  char thread[32] = "";
  prctl(PR_GET_NAME, thread);
  char line[256];
  uint64_t address = 0;
  if (number == SIGSEGV && served->memory().IsDeviceAddress(signal->si_addr, address)) {
    std::snprintf(line, sizeof(line), "card lost: %s accessed device address 0x%llx, which is in no buffer", thread,
                  static_cast<unsigned long long>(address));
  } else {
    std::snprintf(line, sizeof(line), "card lost: %s crashed with signal %d (%s)", thread, number, strsignal(number));
  }
  LogCard(line);
  _exit(kCardFaulted);
}

void CatchFaults(const CardServer& server) {
  served = &server;
  struct sigaction action = {};
  action.sa_sigaction = Die;
  action.sa_flags = SA_SIGINFO;
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigaction(number, &action, nullptr);
}

// Away from the host's terminal, process group and files.
void Detach() {
  setsid();
  for (const int number : {SIGINT, SIGHUP, SIGQUIT, SIGPIPE}) signal(number, SIG_IGN);
  for (const int number : {SIGCHLD, SIGTERM, SIGUSR1}) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = open("/dev/null", O_RDWR);
  dup2(null, STDIN_FILENO);
  dup2(OpenCardLog(), STDERR_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);
  close_range(3, ~0U, 0);
}

const char* Variable(const char* name) {
  const char* const value = std::getenv(name);
  if (!value) throw std::runtime_error(std::string(name) + " is not set");
  return value;
}

// The host opens the socket while it starts this process.
int Connect(const char* path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof(address.sun_path)) throw std::runtime_error(std::string("too long: ") + path);
  std::strcpy(address.sun_path, path);
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  for (int waited = 0; waited < kConnectMilliseconds; ++waited) {
    if (connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return descriptor;
    usleep(1000);
  }
  throw std::runtime_error(std::string("no host listens at ") + path);
}

// Faults are for the first card that a host opens.
InjectedFaults TakeFaults(const std::string& run_folder) {
  const char* const text = std::getenv("BERTILE_EMU_FAULT");
  if (!text || run_folder.empty()) return InjectedFaults();
  const int marker = open((run_folder + "/faults-taken").c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (marker < 0) return InjectedFaults();
  close(marker);
  return InjectedFaults::Parse(text);
}

}  // namespace

}  // namespace bertile

int main() {
  using namespace bertile;
  NameHost(getppid());
  try {
    Detach();
    // First of all: a host that waits for the card sees when it ends.
    const int socket = Connect(Variable(kSocketVariable));
    const char* const named = std::getenv(kRunFolderVariable);
    const std::string run_folder = named ? named : "";
    CardServer& server = *new CardServer(socket, TakeFaults(run_folder));
    CatchFaults(server);
    if (!server.Serve()) RemoveRunFolder(run_folder);
    _exit(0);  // a unit may still run, or hang for ever
  } catch (const std::exception& error) {
    LogCard(std::string("no card: ") + error.what());
    _exit(kCardFaulted);
  }
}
