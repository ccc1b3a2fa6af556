// What C++ throws, as text for Rust: see thrown.rs.

#pragma once

#include <c10/util/Exception.h>

#include <cstring>
#include <exception>
#include <string>

inline char* copied(const std::string& text) {
  return strdup(text.c_str());
}

// Runs `work`. Null, or the error's text, which the caller frees.
template <typename Work>
char* caught(const Work& work) {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    return copied(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return copied(error.what());
  } catch (...) {
    return copied("an unknown error");
  }
}
