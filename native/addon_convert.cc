#include "addon_convert.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <iterator>

namespace siteswap::addon {

Napi::Error systemError(Napi::Env env, int errorNumber, const char* what, const std::string& path) {
  const char* name = ::strerrorname_np(errorNumber);
  std::string message =
      std::string(name != nullptr ? name : "EUNKNOWN") + ": " + std::strerror(errorNumber) + ", " + what;
  if (!path.empty()) message += " '" + path + "'";
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, name != nullptr ? name : "EUNKNOWN"));
  error.Set("errno", Napi::Number::New(env, errorNumber));
  error.Set("syscall", Napi::String::New(env, what));
  return error;
}

Napi::Error codedError(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

Fields::Fields(const Napi::Value& value) : env_(value.Env()) {
  if (value.IsObject()) {
    object_ = value.As<Napi::Object>();
  } else {
    Napi::TypeError::New(env_, "an options object is wanted").ThrowAsJavaScriptException();
  }
}

Napi::Value Fields::value(const char* name) {
  if (failed() || object_.IsEmpty()) return env_.Undefined();
  return object_.Get(name);
}

Napi::Value Fields::get(const char* name, bool sound, const char* wanted, const Napi::Value& value) {
  if (!sound && !failed()) {
    Napi::TypeError::New(env_, std::string(name) + " must be " + wanted).ThrowAsJavaScriptException();
  }
  return value;
}

int64_t Fields::integer(const char* name) {
  const Napi::Value v = value(name);
  get(name, v.IsNumber(), "a number", v);
  return failed() ? 0 : v.As<Napi::Number>().Int64Value();
}

uint64_t Fields::bigint(const char* name) {
  const Napi::Value v = value(name);
  get(name, v.IsBigInt(), "a bigint", v);
  if (failed()) return 0;
  bool lossless = false;
  const uint64_t number = v.As<Napi::BigInt>().Uint64Value(&lossless);
  get(name, lossless, "a bigint of 64 bits", v);
  return number;
}

std::string Fields::text(const char* name) {
  const Napi::Value v = value(name);
  get(name, v.IsString(), "a string", v);
  return failed() ? "" : v.As<Napi::String>().Utf8Value();
}

std::string Fields::textOrNull(const char* name) {
  const Napi::Value v = value(name);
  return v.IsNull() ? "" : text(name);
}

bool Fields::boolean(const char* name) {
  const Napi::Value v = value(name);
  get(name, v.IsBoolean(), "true or false", v);
  return !failed() && v.As<Napi::Boolean>().Value();
}

bool bytesOf(const Napi::Value& value, std::string& out) {
  if (!value.IsBuffer()) {
    Napi::TypeError::New(value.Env(), "a path must be a Buffer").ThrowAsJavaScriptException();
    return false;
  }
  const auto buffer = value.As<Napi::Buffer<char>>();
  out.assign(buffer.Data(), buffer.Length());
  return true;
}

bool viewOf(const Napi::Value& value, overlay::ViewName& out) {
  Fields fields(value);
  out.isTransaction = !fields.value("transaction").IsUndefined();
  out.number = static_cast<uint64_t>(fields.integer(out.isTransaction ? "transaction" : "generation"));
  return !fields.failed();
}

bool resolutionsOf(const Napi::Value& value, overlay::Resolutions& out) {
  using overlay::Resolution;
  static constexpr std::pair<const char*, Resolution::Take> kTakes[] = {{"head", Resolution::kHead},
                                                                        {"transaction", Resolution::kTransaction},
                                                                        {"nothing", Resolution::kNothing},
                                                                        {"merge", Resolution::kMerge}};
  if (value.IsUndefined()) return true;
  const Napi::Array list = value.IsArray() ? value.As<Napi::Array>() : Napi::Array::New(value.Env());
  for (uint32_t i = 0; i < list.Length(); ++i) {
    Fields fields(list.Get(i));
    const Napi::Value take = fields.value("take");
    std::string path;
    Resolution decided{Resolution::kContent, ""};
    if (fields.failed() || !bytesOf(fields.value("path"), path)) return false;
    if (take.IsString()) {
      const std::string word = take.As<Napi::String>().Utf8Value();
      const auto* found =
          std::find_if(std::begin(kTakes), std::end(kTakes), [&](const auto& t) { return word == t.first; });
      if (found == std::end(kTakes)) {
        Napi::TypeError::New(value.Env(), "unknown take: " + word).ThrowAsJavaScriptException();
        return false;
      }
      decided.take = found->second;
    } else if (!bytesOf(take, decided.content)) {
      return false;
    }
    out[path] = std::move(decided);
  }
  return true;
}

Napi::Value bufferOf(Napi::Env env, const std::string& bytes) {
  return Napi::Buffer<char>::Copy(env, bytes.data(), bytes.size());
}

const char* fileTypeName(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return "directory";
    case S_IFLNK:
      return "symlink";
    case S_IFIFO:
      return "fifo";
    case S_IFSOCK:
      return "socket";
    case S_IFCHR:
      return "character";
    case S_IFBLK:
      return "block";
    default:
      return "file";
  }
}

namespace {

class Task : public Napi::AsyncWorker {
 public:
  Task(Napi::Env env, const char* what, std::function<int()> work, std::function<Napi::Value(Napi::Env)> convert)
      : Napi::AsyncWorker(env), deferred(env), what_(what), work_(std::move(work)), convert_(std::move(convert)) {}

  Napi::Promise::Deferred deferred;

 private:
  void Execute() override {
    try {
      errorNumber_ = work_();
    } catch (const std::bad_alloc&) {
      errorNumber_ = ENOMEM;
    }
  }
  void OnOK() override {
    Napi::HandleScope scope(Env());
    if (errorNumber_ != 0) return deferred.Reject(systemError(Env(), errorNumber_, what_).Value());
    const Napi::Value value = convert_(Env());
    if (Env().IsExceptionPending()) return deferred.Reject(Env().GetAndClearPendingException().Value());
    deferred.Resolve(value);
  }

  const char* what_;
  std::function<int()> work_;
  std::function<Napi::Value(Napi::Env)> convert_;
  int errorNumber_ = 0;
};

}  // namespace

Napi::Promise runAsync(Napi::Env env, const char* what, std::function<int()> work,
                       std::function<Napi::Value(Napi::Env)> convert) {
  auto* task = new Task(env, what, std::move(work), std::move(convert));
  const Napi::Promise promise = task->deferred.Promise();
  task->Queue();
  return promise;
}

}  // namespace siteswap::addon
