// The addon's module functions. See src/native/binding.ts for the contract.
#include <fcntl.h>
#include <napi.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include "addon_convert.h"
#include "addon_engine.h"
#include "fuse/mount.h"
#include "overlay/compare.h"
#include "overlay/scan.h"
#include "process/exit_events.h"
#include "process/process.h"
#include "sys/descriptor.h"

namespace siteswap::addon {

namespace {

Napi::Value mountFuse(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string target = info[0].ToString().Utf8Value();
  Fields fields(info[1]);
  const std::string source = fields.text("source");
  const bool allowOther = fields.boolean("allowOther");
  if (fields.failed()) return env.Undefined();
  std::string what;
  const int fd = fuse::mountFuse(target, source, allowOther, what);
  if (fd < 0) {
    systemError(env, -fd, what.c_str(), target).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return Napi::Number::New(env, fd);
}

Napi::Value unmountFuse(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string target = info[0].ToString().Utf8Value();
  Fields fields(info[1]);
  const bool lazy = fields.boolean("lazy");
  if (fields.failed()) return env.Undefined();
  std::string what;
  const int e = fuse::unmountFuse(target, lazy, what);
  if (e < 0) systemError(env, -e, what.c_str(), target).ThrowAsJavaScriptException();
  return env.Undefined();
}

Napi::Value tryLock(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (::flock(info[0].ToNumber().Int32Value(), LOCK_EX | LOCK_NB) == 0) return Napi::Boolean::New(env, true);
  if (errno != EWOULDBLOCK) systemError(env, errno, "flock").ThrowAsJavaScriptException();
  return Napi::Boolean::New(env, false);
}

Napi::Value peerCredentials(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(info[0].ToNumber().Int32Value(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    systemError(env, errno, "getsockopt").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Object out = Napi::Object::New(env);
  out.Set("pid", peer.pid);
  out.Set("uid", peer.uid);
  out.Set("gid", peer.gid);
  return out;
}

Napi::Value sendDescriptor(const Napi::CallbackInfo& info) {
  if (sys::sendDescriptor(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int32Value()) != 0) {
    systemError(info.Env(), errno, "sendmsg").ThrowAsJavaScriptException();
  }
  return info.Env().Undefined();
}

Napi::Value receiveDescriptor(const Napi::CallbackInfo& info) {
  const int fd = sys::receiveDescriptor(info[0].ToNumber().Int32Value());
  if (fd < 0) systemError(info.Env(), errno, "recvmsg").ThrowAsJavaScriptException();
  return Napi::Number::New(info.Env(), fd);
}

Napi::Value syncFilesystem(const Napi::CallbackInfo& info) {
  const int fd = info[0].ToNumber().Int32Value();
  return runAsync(
      info.Env(), "syncfs", [fd] { return ::syncfs(fd) == 0 ? 0 : errno; },
      [](Napi::Env env) { return env.Undefined(); });
}

Napi::Value hasExitEvents(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), process::ExitEvents::open() != nullptr);
}

Napi::Value hasPidfdInfo(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), process::hasPidfdInfo());
}

Napi::Value scanLower(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Fields fields(info[0]);
  const auto lowerFd = static_cast<int>(fields.integer("lowerFd"));
  const std::string path = fields.text("manifestPath");
  const uint64_t firstIno = fields.bigint("firstIno");
  const uint64_t inoCount = fields.bigint("inoCount");
  if (!fields.failed() && !info[1].IsFunction()) {
    Napi::TypeError::New(env, "onProgress must be a function").ThrowAsJavaScriptException();
  }
  if (fields.failed()) return env.Undefined();
  auto progress = Napi::ThreadSafeFunction::New(env, info[1].As<Napi::Function>(), "siteswap scan", 0, 1);
  struct State {
    overlay::ScanSummary summary;
    overlay::ScanError error;
  };
  auto state = std::make_shared<State>();
  return runAsync(
      env, "scan",
      [=]() mutable {
        state->error = overlay::scanToManifest(
            lowerFd, path, firstIno, inoCount,
            [&](uint64_t entries) {
              progress.NonBlockingCall([entries](Napi::Env e, Napi::Function onProgress) {
                Napi::Object event = Napi::Object::New(e);
                event.Set("entries", static_cast<double>(entries));
                onProgress.Call({event});
              });
            },
            state->summary);
        progress.Release();
        return 0;
      },
      [state](Napi::Env e) -> Napi::Value {
        if (state->error.errorNumber != 0) {
          systemError(e, state->error.errorNumber, "scan", state->error.path).ThrowAsJavaScriptException();
          return e.Undefined();
        }
        Napi::Object out = Napi::Object::New(e);
        out.Set("entries", static_cast<double>(state->summary.entries));
        out.Set("sizeBytes", Napi::BigInt::New(e, state->summary.sizeBytes));
        out.Set("nextIno", Napi::BigInt::New(e, state->summary.nextIno));
        out.Set("maxMtimeNs", Napi::BigInt::New(e, state->summary.maxMtimeNs));
        return out;
      });
}

Napi::Value lowerChanges(Napi::Env env, const std::vector<overlay::LowerChange>& changes) {
  static constexpr const char* kKinds[] = {"added", "removed", "modified"};
  Napi::Array out = Napi::Array::New(env, changes.size());
  for (size_t i = 0; i < changes.size(); ++i) {
    Napi::Object change = Napi::Object::New(env);
    change.Set("path", bufferOf(env, changes[i].path));
    change.Set("what", kKinds[static_cast<int>(changes[i].kind)]);
    out.Set(static_cast<uint32_t>(i), change);
  }
  return out;
}

Napi::Value checkLower(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Fields fields(info[0]);
  const auto lowerFd = static_cast<int>(fields.integer("lowerFd"));
  const std::string path = fields.text("manifestPath");
  struct State {
    std::string damage;
    overlay::CompareOptions options;
    std::atomic<bool> stop{false};
    overlay::ScanError error;
    std::vector<overlay::LowerChange> changes;
  };
  auto state = std::make_shared<State>();
  state->options.directoriesOnly = fields.boolean("directoriesOnly");
  state->options.inBackground = fields.boolean("inBackground");
  state->options.limit = static_cast<size_t>(fields.integer("limit"));
  state->options.stop = &state->stop;
  if (fields.failed()) return env.Undefined();
  const Napi::Promise changes = runAsync(
      env, "checkLower",
      [=] {
        const auto manifest = overlay::Manifest::open(path, state->damage);
        if (manifest && manifest->generation() != 0) state->damage = "is of another generation";
        if (state->damage.empty()) {
          state->error = overlay::compareLower(lowerFd, *manifest, state->options, state->changes);
        }
        return 0;
      },
      [state, path](Napi::Env e) -> Napi::Value {
        if (!state->damage.empty()) {
          codedError(e, "EBADMSG", path + " " + state->damage).ThrowAsJavaScriptException();
          return e.Undefined();
        }
        if (state->error.errorNumber != 0) {
          systemError(e, state->error.errorNumber, "scan", state->error.path).ThrowAsJavaScriptException();
          return e.Undefined();
        }
        return lowerChanges(e, state->changes);
      });
  Napi::Object out = Napi::Object::New(env);
  out.Set("changes", changes);
  out.Set("stop", Napi::Function::New(
                      env, [state](const Napi::CallbackInfo&) { state->stop = true; }, "stop"));
  return out;
}

Napi::Value checkManifest(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = info[0].ToString().Utf8Value();
  std::string why;
  const auto manifest = overlay::Manifest::open(path, why);
  if (!manifest) {
    codedError(env, "EBADMSG", path + " " + why).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Object out = Napi::Object::New(env);
  out.Set("generation", static_cast<double>(manifest->generation()));
  out.Set("entries", static_cast<double>(manifest->size()));
  return out;
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("mountFuse", mountFuse);
  add("unmountFuse", unmountFuse);
  add("tryLock", tryLock);
  add("peerCredentials", peerCredentials);
  add("sendDescriptor", sendDescriptor);
  add("receiveDescriptor", receiveDescriptor);
  add("syncFilesystem", syncFilesystem);
  add("hasPidfdInfo", hasPidfdInfo);
  add("hasExitEvents", hasExitEvents);
  add("scanLower", scanLower);
  add("checkLower", checkLower);
  add("checkManifest", checkManifest);
  add("createEngine", createEngine);
  return exports;
}

}  // namespace

NODE_API_MODULE(siteswap, initialise)

}  // namespace siteswap::addon
