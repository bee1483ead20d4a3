#include "addon_engine.h"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "addon_convert.h"
#include "fuse/opcodes.h"
#include "fuse/session.h"
#include "overlay/overlay.h"

namespace siteswap::addon {

namespace {

using overlay::Overlay;

// Calls from the engine's threads into JavaScript, in order. After close() they are dropped.
class EventQueue {
 public:
  using Build = std::function<void(Napi::Env, Napi::Function)>;
  EventQueue(Napi::Env env, const Napi::Function& onEvent)
      : queue_(Napi::ThreadSafeFunction::New(env, onEvent, "siteswap events", 0, 1)) {}
  void post(Build build) {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    queue_.NonBlockingCall(new Build(std::move(build)), [](Napi::Env env, Napi::Function onEvent, Build* work) {
      const std::unique_ptr<Build> owned(work);
      if (env != nullptr) (*work)(env, onEvent);
    });
  }
  void close() {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    queue_.Release();
  }

 private:
  std::mutex mutex_;
  bool closed_ = false;
  Napi::ThreadSafeFunction queue_;
};

void emitLog(const std::shared_ptr<EventQueue>& queue, const std::string& text) {
  queue->post([text](Napi::Env env, Napi::Function onEvent) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("type", "log");
    event.Set("text", text);
    onEvent.Call({event});
  });
}

Napi::Value optionalNumber(Napi::Env env, const std::optional<int>& number) {
  return number ? Napi::Number::New(env, *number) : env.Null();
}

overlay::OverlayEvents eventsTo(const std::shared_ptr<EventQueue>& queue) {
  overlay::OverlayEvents events;
  events.writerAppeared = [queue](const overlay::OverlayEvents::Writer& writer) {
    queue->post([writer](Napi::Env env, Napi::Function onEvent) {
      Napi::Object event = Napi::Object::New(env);
      event.Set("type", "writer-appeared");
      event.Set("request", static_cast<double>(writer.request));
      event.Set("pid", writer.pid);
      event.Set("uid", writer.uid);
      event.Set("gid", writer.gid);
      event.Set("op", writer.op);
      event.Set("path", bufferOf(env, writer.path));
      onEvent.Call({event});
    });
  };
  events.rootExited = [queue](uint32_t transaction, process::ExitStatus status) {
    queue->post([transaction, status](Napi::Env env, Napi::Function onEvent) {
      Napi::Object event = Napi::Object::New(env);
      event.Set("type", "root-exited");
      event.Set("transaction", transaction);
      event.Set("exitCode", optionalNumber(env, status.exitCode));
      event.Set("signal", optionalNumber(env, status.signal));
      onEvent.Call({event});
    });
  };
  events.log = [queue](const std::string& text) { emitLog(queue, text); };
  return events;
}

// What outlives a call: workers hold it while they run.
struct Core {
  std::shared_ptr<EventQueue> queue;
  std::unique_ptr<Overlay> overlay;
  std::unique_ptr<fuse::Session> session;
  std::mutex viewersMutex;
  std::map<int, std::unique_ptr<fuse::Session>> viewers;  // by device descriptor
  std::vector<std::string> disabled;
  std::once_flag stopped;

  bool isDisabled(const char* feature) const {
    return std::find(disabled.begin(), disabled.end(), feature) != disabled.end();
  }
  void stop() {
    std::call_once(stopped, [this] {
      // A constructor that threw leaves some of these unmade.
      if (overlay) overlay->shutDown();
      takeViewers().clear();
      if (session) session->stop();
      if (queue) queue->close();
    });
  }
  // Destroyed by the caller, without the lock: that waits for their threads.
  std::map<int, std::unique_ptr<fuse::Session>> takeViewers() {
    std::lock_guard lock(viewersMutex);
    return std::exchange(viewers, {});
  }
  std::unique_ptr<fuse::Session> takeViewer(int fd) {
    std::lock_guard lock(viewersMutex);
    auto node = viewers.extract(fd);
    return node ? std::move(node.mapped()) : nullptr;
  }
  ~Core() { stop(); }
};

class Engine : public Napi::ObjectWrap<Engine> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "Engine",
        {InstanceMethod("start", &Engine::start), InstanceMethod("decide", &Engine::decide),
         InstanceMethod("beginTransaction", &Engine::beginTransaction),
         InstanceMethod("restoreTransaction", &Engine::restoreTransaction),
         InstanceMethod("freezeTransaction", &Engine::freezeTransaction),
         InstanceMethod("transactionInfo", &Engine::transactionInfo), InstanceMethod("changes", &Engine::changes),
         InstanceMethod("buildManifest", &Engine::buildManifest), InstanceMethod("publish", &Engine::publish),
         InstanceMethod("abortTransaction", &Engine::abortTransaction),
         InstanceMethod("releaseBarrier", &Engine::releaseBarrier), InstanceMethod("observe", &Engine::observe),
         InstanceMethod("serveViewer", &Engine::serveViewer), InstanceMethod("stat", &Engine::stat),
         InstanceMethod("list", &Engine::list), InstanceMethod("read", &Engine::read),
         InstanceMethod("pins", &Engine::pins), InstanceMethod("counters", &Engine::counters),
         InstanceMethod("stop", &Engine::stop)});
  }

  explicit Engine(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Engine>(info) {
    Napi::Env env = info.Env();
    Fields fields(info[0]);
    overlay::OverlayOptions options;
    deviceFd_ = static_cast<int>(fields.integer("deviceFd"));
    options.lowerFd = static_cast<int>(fields.integer("lowerFd"));
    options.layersDir = fields.text("layersDir");
    options.manifestsDir = fields.text("manifestsDir");
    options.liveDir = fields.text("liveDir");
    options.generation = static_cast<uint64_t>(fields.integer("generation"));
    options.firstIno = fields.bigint("firstIno");
    options.inoCount = fields.bigint("inoCount");
    options.maxMtimeNs = static_cast<int64_t>(fields.bigint("maxMtimeNs"));
    core_ = std::make_shared<Core>();
    readDisabled(fields.value("disable"));
    readPin(fields.value("pin"), options);
    if (!fields.failed() && !info[1].IsFunction()) {
      Napi::TypeError::New(env, "onEvent must be a function").ThrowAsJavaScriptException();
    }
    if (fields.failed()) return;
    options.disablePidfdInfo = core_->isDisabled("pidfd-info");
    options.disableExitEvents = core_->isDisabled("exit-events");
    core_->queue = std::make_shared<EventQueue>(env, info[1].As<Napi::Function>());
    core_->overlay = std::make_unique<Overlay>(options, eventsTo(core_->queue));
    if (const std::string error = core_->overlay->load(); !error.empty()) {
      codedError(env, "EBADMSG", error).ThrowAsJavaScriptException();
    }
  }

 private:
  void readDisabled(const Napi::Value& list) {
    if (!list.IsArray()) return;
    const auto array = list.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) core_->disabled.push_back(array.Get(i).ToString().Utf8Value());
  }

  static void readPin(const Napi::Value& pin, overlay::OverlayOptions& options) {
    if (pin.IsObject()) {
      options.pin = overlay::PinPolicy::kLease;
      options.leaseSeconds = Fields(pin).integer("leaseSeconds");
    } else if (pin.IsString() && pin.As<Napi::String>().Utf8Value() == "none") {
      options.pin = overlay::PinPolicy::kNone;
    }
  }

  Napi::Value start(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
    auto settled = std::make_shared<bool>(false);  // JavaScript's thread only
    fuse::SessionOptions options = sessionOptions(deviceFd_);
    const std::shared_ptr<EventQueue> queue = core_->queue;
    options.stopped = [queue, deferred, settled](fuse::StopReason reason, const std::string& text) {
      const std::string why = std::string(fuse::toString(reason)) + (text.empty() ? "" : ": " + text);
      queue->post([why, deferred, settled](Napi::Env e, Napi::Function onEvent) {
        if (!*settled) {
          *settled = true;
          deferred->Reject(codedError(e, "ESESSION", why).Value());
        }
        Napi::Object event = Napi::Object::New(e);
        event.Set("type", "session-stopped");
        event.Set("reason", why);
        onEvent.Call({event});
      });
    };
    core_->session = std::make_unique<fuse::Session>(std::move(options), *core_->overlay);
    core_->overlay->attach(core_->session.get());
    const bool withPidfdInfo = process::hasPidfdInfo() && !core_->isDisabled("pidfd-info");
    // Listened to only where it is needed.
    const bool withExitEvents = core_->overlay->hasExitEvents();
    core_->session->start([queue, deferred, settled, withPidfdInfo, withExitEvents](const fuse::Negotiated& n) {
      queue->post([n, deferred, settled, withPidfdInfo, withExitEvents](Napi::Env e, Napi::Function) {
        *settled = true;
        Napi::Object session = Napi::Object::New(e);
        session.Set("minor", n.minor);
        Napi::Array features = Napi::Array::New(e);
        const auto add = [&](bool has, const char* name) {
          if (has) features.Set(features.Length(), name);
        };
        add(n.epoch, "epoch");
        add(n.noOpen, "no-open");
        add(n.resend, "resend");
        add(withPidfdInfo, "pidfd-info");
        add(withExitEvents, "exit-events");
        add(n.readdirplus, "readdirplus");
        session.Set("features", features);
        deferred->Resolve(session);
      });
    });
    return deferred->Promise();
  }

  fuse::SessionOptions sessionOptions(int deviceFd) const {
    fuse::SessionOptions options;
    options.deviceFd = deviceFd;
    options.disableEpoch = core_->isDisabled("epoch");
    options.disableNoOpen = core_->isDisabled("no-open");
    options.disableReaddirplus = core_->isDisabled("readdirplus");
    options.disableResend = core_->isDisabled("resend");
    options.log = [queue = core_->queue](const std::string& text) { emitLog(queue, text); };
    return options;
  }

  // Resolves when its mount is gone and nothing uses the descriptor any more.
  Napi::Value serveViewer(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!info[0].IsNumber()) {
      Napi::TypeError::New(env, "a descriptor must be a number").ThrowAsJavaScriptException();
      return env.Undefined();
    }
    const int fd = info[0].As<Napi::Number>().Int32Value();
    auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
    fuse::SessionOptions options = sessionOptions(fd);
    const std::weak_ptr<Core> weak = core_;
    options.stopped = [weak, deferred, fd, queue = core_->queue](fuse::StopReason, const std::string&) {
      queue->post([weak, deferred, fd](Napi::Env e, Napi::Function) {
        const std::shared_ptr<Core> core = weak.lock();
        // All of its threads have ended: nothing of it is parked from now on.
        if (const auto viewer = core ? core->takeViewer(fd) : nullptr) core->overlay->release(*viewer);
        deferred->Resolve(e.Undefined());
      });
    };
    auto viewer = std::make_unique<fuse::Session>(std::move(options), *core_->overlay);
    std::lock_guard lock(core_->viewersMutex);
    viewer->start([](const fuse::Negotiated&) {});
    core_->viewers[fd] = std::move(viewer);
    return deferred->Promise();
  }

  // Throws when errorNumber is not 0.
  static Napi::Value done(Napi::Env env, int errorNumber, const char* what) {
    if (errorNumber != 0) systemError(env, errorNumber, what).ThrowAsJavaScriptException();
    return env.Undefined();
  }

  static uint32_t idOf(const Napi::Value& value) {
    if (!value.IsNumber()) {
      Napi::TypeError::New(value.Env(), "a transaction's id must be a number").ThrowAsJavaScriptException();
      return 0;
    }
    return value.As<Napi::Number>().Uint32Value();
  }

  Napi::Value decide(const Napi::CallbackInfo& info) {
    Fields fields(info[1]);
    auto verdict = Overlay::Verdict::kRetry;
    int errorNumber = 0;
    if (fields.value("errno").IsNumber()) {
      verdict = Overlay::Verdict::kError;
      errorNumber = static_cast<int>(fields.integer("errno"));
    } else if (fields.value("live").IsBoolean()) {
      verdict = Overlay::Verdict::kLive;
    }
    if (fields.failed()) return info.Env().Undefined();
    core_->overlay->decide(static_cast<uint64_t>(info[0].ToNumber().Int64Value()), verdict, errorNumber);
    return info.Env().Undefined();
  }

  Napi::Value beginTransaction(const Napi::CallbackInfo& info) {
    Fields fields(info[0]);
    const auto id = static_cast<uint32_t>(fields.integer("id"));
    const std::string directory = fields.text("directory");
    const auto pid = static_cast<int>(fields.integer("rootPid"));
    const std::string token = fields.textOrNull("token");
    if (fields.failed()) return info.Env().Undefined();
    return done(info.Env(), core_->overlay->beginTransaction(id, directory, pid, token), "begin");
  }

  Napi::Value restoreTransaction(const Napi::CallbackInfo& info) {
    Fields fields(info[0]);
    const auto id = static_cast<uint32_t>(fields.integer("id"));
    const std::string directory = fields.text("directory");
    if (fields.failed()) return info.Env().Undefined();
    return done(info.Env(), core_->overlay->restoreTransaction(id, directory), "restore");
  }

  Napi::Value freezeTransaction(const Napi::CallbackInfo& info) {
    const uint32_t id = idOf(info[0]);
    return runAsync(
        info.Env(), "freeze", [core = core_, id] { return core->overlay->freezeTransaction(id); },
        [](Napi::Env env) { return env.Undefined(); });
  }

  Napi::Value transactionInfo(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    const uint32_t id = idOf(info[0]);
    overlay::TransactionInfo found;
    if (const int e = core_->overlay->transactionInfo(id, found)) return done(env, e, "transactionInfo");
    Napi::Object out = Napi::Object::New(env);
    out.Set("id", id);
    out.Set("base", static_cast<double>(found.base));
    out.Set("rootPid", found.rootPid);
    Napi::Array members = Napi::Array::New(env);
    for (const int pid : found.members) members.Set(members.Length(), pid);
    out.Set("members", members);
    out.Set("mutations", static_cast<double>(found.mutations));
    out.Set("quietMs", static_cast<double>(found.quietMs));
    out.Set("state", found.state);
    return out;
  }

  Napi::Value changes(const Napi::CallbackInfo& info) {
    const uint32_t id = idOf(info[0]);
    auto found = std::make_shared<std::vector<overlay::Change>>();
    return runAsync(
        info.Env(), "changes", [core = core_, id, found] { return core->overlay->changes(id, *found); },
        [found](Napi::Env env) -> Napi::Value {
          static constexpr const char* kKinds[] = {"added", "removed", "modified", "attributes"};
          Napi::Array list = Napi::Array::New(env, found->size());
          for (size_t i = 0; i < found->size(); ++i) {
            const overlay::Change& change = (*found)[i];
            Napi::Object out = Napi::Object::New(env);
            out.Set("path", bufferOf(env, change.path));
            out.Set("kind", kKinds[static_cast<int>(change.kind)]);
            out.Set("type", fileTypeName(change.mode));
            list.Set(static_cast<uint32_t>(i), out);
          }
          return list;
        });
  }

  Napi::Value buildManifest(const Napi::CallbackInfo& info) {
    Fields fields(info[0]);
    const auto id = static_cast<uint32_t>(fields.integer("transaction"));
    const auto generation = static_cast<uint64_t>(fields.integer("generation"));
    const auto layer = static_cast<uint32_t>(fields.integer("layer"));
    const std::string path = fields.text("manifestPath");
    auto resolutions = std::make_shared<overlay::Resolutions>();
    if (fields.failed() || !resolutionsOf(fields.value("resolutions"), *resolutions)) return info.Env().Undefined();
    auto built = std::make_shared<overlay::MergeResult>();
    return runAsync(
        info.Env(), "buildManifest",
        [core = core_, id, generation, layer, path, resolutions, built] {
          *built = core->overlay->buildManifest(id, generation, layer, path, std::move(*resolutions));
          return built->error;
        },
        [built](Napi::Env env) -> Napi::Value {
          Napi::Object out = Napi::Object::New(env);
          Napi::Array conflicts = Napi::Array::New(env);
          for (const std::string& path : built->conflicts) {
            Napi::Object conflict = Napi::Object::New(env);
            conflict.Set("path", bufferOf(env, path));
            conflicts.Set(conflicts.Length(), conflict);
          }
          out.Set("conflicts", conflicts);
          out.Set("entries", static_cast<double>(built->entries));
          out.Set("bodies", static_cast<double>(built->bodies));
          out.Set("nextIno", Napi::BigInt::New(env, built->nextIno));
          out.Set("maxMtimeNs", Napi::BigInt::New(env, built->maxMtimeNs));
          return out;
        });
  }

  Napi::Value publish(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    Fields fields(info[0]);
    const auto generation = static_cast<uint64_t>(fields.integer("generation"));
    const bool has = !fields.value("transaction").IsNull();
    const uint32_t id = has ? static_cast<uint32_t>(fields.integer("transaction")) : 0;
    if (fields.failed()) return env.Undefined();
    std::string why;
    const int e = core_->overlay->publish(generation, id, why);
    if (e == 0) return env.Undefined();
    if (!why.empty()) {
      codedError(env, "EBADMSG", why).ThrowAsJavaScriptException();
      return env.Undefined();
    }
    return done(env, e, "publish");
  }

  Napi::Value abortTransaction(const Napi::CallbackInfo& info) {
    const uint32_t id = idOf(info[0]);
    if (info.Env().IsExceptionPending()) return info.Env().Undefined();
    std::optional<overlay::Refusal> refusal;
    if (info[1].IsObject()) {
      Fields fields(info[1]);
      refusal.emplace();
      refusal->exceptRoot = fields.boolean("exceptRoot");
      if (fields.value("quietMs").IsNumber()) refusal->quietMs = fields.integer("quietMs");
      if (fields.failed()) return info.Env().Undefined();
    }
    std::vector<int> refused;
    done(info.Env(), core_->overlay->abortTransaction(id, refusal, &refused), "abort");
    Napi::Array pids = Napi::Array::New(info.Env());
    for (const int pid : refused) pids.Set(pids.Length(), pid);
    return pids;
  }

  Napi::Value releaseBarrier(const Napi::CallbackInfo& info) {
    const uint32_t id = idOf(info[0]);
    if (info.Env().IsExceptionPending()) return info.Env().Undefined();
    return done(info.Env(), core_->overlay->releaseBarrier(id), "releaseBarrier");
  }

  Napi::Value observe(const Napi::CallbackInfo& info) {
    Fields fields(info[0]);
    overlay::ViewName view;
    const auto pid = static_cast<int>(fields.integer("pid"));
    if (fields.failed() || !viewOf(fields.value("view"), view)) return info.Env().Undefined();
    return done(info.Env(), core_->overlay->observe(view, pid), "observe");
  }

  Napi::Value stat(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    overlay::ViewName view;
    std::string path;
    if (!viewOf(info[0], view) || !bytesOf(info[1], path)) return env.Undefined();
    Overlay::PathNode node;
    if (const int e = core_->overlay->pathStat(view, path, node)) {
      systemError(env, e, "stat", path).ThrowAsJavaScriptException();
      return env.Undefined();
    }
    const overlay::NodeAttributes& a = node.attributes;
    Napi::Object out = Napi::Object::New(env);
    out.Set("ino", Napi::BigInt::New(env, a.ino));
    out.Set("type", fileTypeName(a.mode));
    out.Set("mode", a.mode & 07777);
    out.Set("uid", a.uid);
    out.Set("gid", a.gid);
    out.Set("nlink", a.nlink);
    out.Set("rdev", a.rdev);
    out.Set("sizeBytes", Napi::BigInt::New(env, a.size));
    out.Set("mtimeNs", Napi::BigInt::New(env, a.mtimeNs));
    if (S_ISLNK(a.mode)) out.Set("target", bufferOf(env, node.target));
    return out;
  }

  Napi::Value list(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    overlay::ViewName view;
    std::string path;
    if (!viewOf(info[0], view) || !bytesOf(info[1], path)) return env.Undefined();
    std::vector<Overlay::PathEntry> entries;
    if (const int e = core_->overlay->pathList(view, path, entries)) {
      systemError(env, e, "list", path).ThrowAsJavaScriptException();
      return env.Undefined();
    }
    Napi::Array out = Napi::Array::New(env, entries.size());
    for (size_t i = 0; i < entries.size(); ++i) {
      Napi::Object entry = Napi::Object::New(env);
      entry.Set("name", bufferOf(env, entries[i].name));
      entry.Set("type", fileTypeName(entries[i].mode));
      entry.Set("ino", Napi::BigInt::New(env, entries[i].ino));
      out.Set(static_cast<uint32_t>(i), entry);
    }
    return out;
  }

  Napi::Value read(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    overlay::ViewName view;
    std::string path;
    if (!viewOf(info[0], view) || !bytesOf(info[1], path)) return env.Undefined();
    auto bytes = std::make_shared<std::string>();
    return runAsync(
        env, "read", [core = core_, view, path, bytes] { return core->overlay->pathRead(view, path, *bytes); },
        [bytes](Napi::Env e) { return bufferOf(e, *bytes); });
  }

  Napi::Value pins(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    Napi::Array out = Napi::Array::New(env);
    for (const overlay::PinInfo& pin : core_->overlay->pins()) {
      Napi::Object entry = Napi::Object::New(env);
      entry.Set("pid", pin.pid);
      entry.Set("generation", static_cast<double>(pin.generation));
      entry.Set("sinceMs", static_cast<double>(pin.sinceMs));
      static constexpr const char* kReasons[] = {"listed", "inherited", "moved"};
      entry.Set("reason", kReasons[static_cast<int>(pin.reason)]);
      out.Set(out.Length(), entry);
    }
    return out;
  }

  Napi::Value counters(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    Napi::Object requests = Napi::Object::New(env);
    for (const fuse::OpcodeRow& row : fuse::opcodeTable()) {
      const uint64_t count = core_->session ? core_->session->requestCount(row.opcode) : 0;
      if (count > 0) requests.Set(row.name, static_cast<double>(count));
    }
    Napi::Object out = Napi::Object::New(env);
    out.Set("requests", requests);
    out.Set("committedViewEvents", static_cast<double>(core_->overlay->committedViewEvents()));
    out.Set("parked", static_cast<double>(core_->overlay->parkedCount()));
    return out;
  }

  Napi::Value stop(const Napi::CallbackInfo& info) {
    return runAsync(
        info.Env(), "stop",
        [core = core_] {
          core->stop();
          return 0;
        },
        [](Napi::Env env) { return env.Undefined(); });
  }

  std::shared_ptr<Core> core_;
  int deviceFd_ = -1;
};

}  // namespace

Napi::Value createEngine(const Napi::CallbackInfo& info) {
  return Engine::define(info.Env()).New({info[0], info[1]});
}

}  // namespace siteswap::addon
