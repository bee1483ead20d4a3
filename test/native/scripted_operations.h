// An Operations whose every method is one function that the test gives, and a Session of it on a FakeKernel.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fake_kernel.h"
#include "fuse/session.h"

namespace siteswap::test {

class ScriptedOperations : public fuse::Operations {
 public:
  // Set before the session starts. Without it, requests are answered with success and no body.
  std::function<void(fuse::RequestPtr)> handler;
  std::function<void(uint64_t)> onInterrupt;

#define SCRIPTED(method)                           \
  void method(fuse::RequestPtr request) override { \
    handle(std::move(request));                    \
  }
  SCRIPTED(lookup)
  SCRIPTED(forget)
  SCRIPTED(batchForget)
  SCRIPTED(getattr)
  SCRIPTED(setattr)
  SCRIPTED(readlink)
  SCRIPTED(symlink)
  SCRIPTED(mknod)
  SCRIPTED(mkdir)
  SCRIPTED(unlink)
  SCRIPTED(rmdir)
  SCRIPTED(rename)
  SCRIPTED(link)
  SCRIPTED(open)
  SCRIPTED(read)
  SCRIPTED(write)
  SCRIPTED(statfs)
  SCRIPTED(release)
  SCRIPTED(fsync)
  SCRIPTED(setxattr)
  SCRIPTED(getxattr)
  SCRIPTED(listxattr)
  SCRIPTED(removexattr)
  SCRIPTED(flush)
  SCRIPTED(readdir)
  SCRIPTED(readdirplus)
  SCRIPTED(fsyncdir)
  SCRIPTED(create)
  SCRIPTED(tmpfile)
  SCRIPTED(fallocate)
  SCRIPTED(lseek)
  SCRIPTED(copyFileRange)
#undef SCRIPTED
  void interrupt(fuse::Session&, uint64_t unique) override {
    if (onInterrupt) onInterrupt(unique);
  }

 private:
  void handle(fuse::RequestPtr request) {
    if (handler) {
      handler(std::move(request));
    } else if (request->opcode() == FUSE_FORGET || request->opcode() == FUSE_BATCH_FORGET) {
      request->replyNone();
    } else {
      request->replyEmpty();
    }
  }
};

// A one-way gate between threads.
class Gate {
 public:
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool wait(int timeoutMs = 20'000) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::milliseconds(timeoutMs), [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

// FakeKernel + operations + session, and what the session said about itself.
class Fixture {
 public:
  explicit Fixture(fuse::SessionOptions given = {}) : options(std::move(given)) {
    options.deviceFd = kernel.deviceFd();
    options.log = [this](const std::string& line) {
      std::lock_guard lock(mutex_);
      log_.push_back(line);
    };
    options.stopped = [this](fuse::StopReason why, const std::string& text) {
      {
        std::lock_guard lock(mutex_);
        reason_ = why;
        reasonText_ = text;
        ++stops_;
      }
      stopped.open();
    };
  }
  // The session goes first: it uses everything else.
  ~Fixture() { session.reset(); }

  // Starts, and does INIT unless the session is to be taken over.
  fuse::Negotiated start(uint32_t minor = 45, uint64_t flags = FakeKernel::kAllFlags) {
    startOnly();
    if (!options.initAlreadyDone) kernel.init(minor, flags);
    ready.wait();
    return session->negotiated();
  }
  void startOnly() {
    session = std::make_unique<fuse::Session>(options, operations);
    session->start([this](const fuse::Negotiated&) { ready.open(); });
  }

  std::optional<fuse::StopReason> reason() {
    std::lock_guard lock(mutex_);
    return reason_;
  }
  std::string reasonText() {
    std::lock_guard lock(mutex_);
    return reasonText_;
  }
  int stops() {
    std::lock_guard lock(mutex_);
    return stops_;
  }
  // How many lines of the log contain `text`.
  size_t logged(std::string_view text) {
    std::lock_guard lock(mutex_);
    size_t count = 0;
    for (const std::string& line : log_) count += line.find(text) != std::string::npos ? 1 : 0;
    return count;
  }

  FakeKernel kernel;
  ScriptedOperations operations;
  fuse::SessionOptions options;
  Gate ready, stopped;
  std::unique_ptr<fuse::Session> session;

 private:
  std::mutex mutex_;
  std::vector<std::string> log_;
  std::optional<fuse::StopReason> reason_;
  std::string reasonText_;
  int stops_ = 0;
};

}  // namespace siteswap::test
