#include "errors.hpp"

#include <cerrno>
#include <cstring>

namespace bertile {

std::string OneLine(const std::string& text) {
  std::string line;
  for (const char character : text) {
    if (character != '\n') {
      line += character;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

std::string Cause(const std::error_code& code, const std::string& text) {
  const int number = code.value() < 0 ? -code.value() : code.value();
  switch (number) {
    case ENODEV:
    case ENXIO:
      return "no such card";
    case EBUSY:
      return "in use, by another process or by this one";
    case ENOMEM:
    case ENOSPC:
      return kNoMemory;
    case EACCES:
    case EPERM:
      return "permission denied";
    default:
      return OneLine(text);
  }
}

}  // namespace bertile
