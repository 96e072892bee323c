#include "card_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace bertile {

namespace {

int host_process = 0;

}  // namespace

void NameHost(int process) { host_process = process; }

int OpenCardLog() {
  const char* const file = std::getenv("BERTILE_EMU_LOG");
  const int opened = file ? open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
  return opened < 0 ? STDERR_FILENO : opened;
}

void LogCard(const char* line) {
  char text[1024];
  timespec now;
  tm utc;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &utc);
  size_t bytes = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ ", &utc);
  const int written = std::snprintf(text + bytes, sizeof(text) - bytes, "host %d: %s", host_process, line);
  bytes += written < 0 ? 0 : size_t(written);
  if (bytes > sizeof(text) - 1) bytes = sizeof(text) - 1;
  text[bytes++] = '\n';
  const int log = OpenCardLog();
  const ssize_t ignored = write(log, text, bytes);  // there is nowhere else to say it
  static_cast<void>(ignored);
  if (log != STDERR_FILENO) close(log);
}

}  // namespace bertile
