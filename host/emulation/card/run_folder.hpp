// A folder for every host process: what XRT writes for it, and the sockets of its cards. It goes when the host ends;
// when that was killed, its card removes it, and when that is gone, too, the next host does.
#pragma once

#include <string>

namespace bertile {

// Set by the guard, in the host process, for the card process.
const char kRunFolderVariable[] = "BERTILE_EMU_RUN";
const char kSocketVariable[] = "BERTILE_EMU_SOCKET";

// How the card process ends when it has logged why.
const int kCardFaulted = 86;

// Makes one in $TMPDIR, or in /tmp when that is too long for the path of a socket. This process holds it; those that no
// process holds are removed. "" when it cannot.
std::string MakeRunFolder();

// Nothing that is not a run folder is removed.
void RemoveRunFolder(const std::string& folder);

}  // namespace bertile
