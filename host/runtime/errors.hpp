// XRT's exceptions as one line that says what was being done.
#pragma once

#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

namespace bertile {

// Whatever XRT refused or the card failed at.
struct CardError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

static const char kNoMemory[] = "not enough memory on the card or the host";

// Newlines of a message would break the one line an error has.
std::string OneLine(const std::string& text);
// The usual meaning of an errno from XRT, or its own text.
std::string Cause(const std::error_code& code, const std::string& text);

// Runs `work`; what it throws becomes a CardError that starts with `doing`.
template <typename Work>
auto During(const std::string& doing, Work&& work) -> decltype(work()) {
  try {
    return work();
  } catch (const CardError&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw CardError(doing + ": " + kNoMemory);
  } catch (const std::system_error& error) {
    throw CardError(doing + ": " + Cause(error.code(), error.what()));
  } catch (const std::exception& error) {
    throw CardError(doing + ": " + OneLine(error.what()));
  }
}

}  // namespace bertile
