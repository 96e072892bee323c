// Redirects calls that a shared library makes of another one, in the table the loader keeps for it (its GOT).
#pragma once

namespace bertile {

struct Import {
  const char* name;
  void* replacement;
};

// `library`: the beginning of its file's name, links followed. False when it does not import the function.
bool RedirectImport(const char* library, const Import& import);

}  // namespace bertile
