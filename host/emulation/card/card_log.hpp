// Why a card was lost or a unit hangs: one line each, appended to the file that BERTILE_EMU_LOG names.
#pragma once

#include <string>

namespace bertile {

// Lines name the host process.
void NameHost(int process);
// The file, opened to append; standard error without one. The caller closes it, if it is not standard error.
int OpenCardLog();
// Usable in a signal handler.
void LogCard(const char* line);
inline void LogCard(const std::string& line) { LogCard(line.c_str()); }

}  // namespace bertile
