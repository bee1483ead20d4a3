// Between JavaScript values and C++ ones. Everything that comes in is checked here: a wrong type is a TypeError that
// names the field, never a crash.
#pragma once

#include <napi.h>

#include <functional>
#include <optional>
#include <string>

#include "overlay/overlay.h"

namespace siteswap::addon {

// An Error as Node's own system errors are: code, errno (positive), syscall.
Napi::Error systemError(Napi::Env env, int errorNumber, const char* what, const std::string& path = "");
Napi::Error codedError(Napi::Env env, const char* code, const std::string& message);

// Fields of an options object. On a wrong type a TypeError is pending and the result is a default: callers check
// env.IsExceptionPending() once, after reading everything.
class Fields {
 public:
  explicit Fields(const Napi::Value& value);
  int64_t integer(const char* name);
  uint64_t bigint(const char* name);
  std::string text(const char* name);
  std::string textOrNull(const char* name);
  bool boolean(const char* name);
  Napi::Value value(const char* name);
  bool failed() const { return env_.IsExceptionPending(); }

 private:
  Napi::Value get(const char* name, bool sound, const char* wanted, const Napi::Value& value);
  Napi::Env env_;
  Napi::Object object_;
};

// A Buffer argument: a path of bytes.
bool bytesOf(const Napi::Value& value, std::string& out);
bool viewOf(const Napi::Value& value, overlay::ViewName& out);
// A list of {path, take}; undefined: none. False: a TypeError is pending.
bool resolutionsOf(const Napi::Value& value, overlay::Resolutions& out);
Napi::Value bufferOf(Napi::Env env, const std::string& bytes);
const char* fileTypeName(uint32_t mode);

// Runs `work` on a worker thread; then `convert` on JavaScript's, whose value the promise resolves with. When work
// returns an errno other than 0, or `convert` leaves an exception, the promise is rejected with it.
Napi::Promise runAsync(Napi::Env env, const char* what, std::function<int()> work,
                       std::function<Napi::Value(Napi::Env)> convert);

}  // namespace siteswap::addon
