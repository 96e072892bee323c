#include "run_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace bertile {

namespace {

const char kPrefix[] = "bertile-emu-";
const char kLock[] = "/lock";
// The path of a socket has at most 107 bytes: of them this many for $TMPDIR.
const size_t kBaseBytes = 60;

std::string Base() {
  const char* const base = std::getenv("TMPDIR");
  return base && *base == '/' && std::strlen(base) <= kBaseBytes ? base : "/tmp";
}

// The descriptor of the folder's lock; -1 when there is none, or another process has it.
int Hold(const std::string& folder, int flags) {
  const int lock = open((folder + kLock).c_str(), O_RDWR | O_CLOEXEC | flags, 0600);
  if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0) return lock;
  if (lock >= 0) close(lock);
  return -1;
}

void RemoveStale(const std::string& base) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(base, error)) {
    const std::string folder = entry.path().string();
    if (entry.path().filename().string().rfind(kPrefix, 0) != 0) continue;
    const int lock = Hold(folder, 0);
    if (lock < 0) continue;
    RemoveRunFolder(folder);
    close(lock);
  }
}

}  // namespace

std::string MakeRunFolder() {
  const std::string base = Base();
  RemoveStale(base);
  for (int attempt = 0; attempt < 10; ++attempt) {
    std::string folder = base + "/" + kPrefix + "XXXXXX";
    if (!mkdtemp(&folder[0])) return "";
    if (Hold(folder, O_CREAT) >= 0) return folder;  // until this process ends
    RemoveRunFolder(folder);                        // taken for a stale one, by another process
  }
  return "";
}

void RemoveRunFolder(const std::string& folder) {
  const std::filesystem::path path(folder);
  if (path.filename().string().rfind(kPrefix, 0) != 0) return;
  std::error_code ignored;  // another process may be doing the same
  std::filesystem::remove_all(path, ignored);
}

}  // namespace bertile
