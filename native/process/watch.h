// Tells when processes end: one thread over an epoll of their pidfds.
//
// Phases of a watched process: running -> zombie (POLLIN) -> reaped (POLLHUP, Linux 6.9). Callbacks run on the
// watcher's thread, never with its lock held, and may add watches; they must not destroy the Watcher.
// Destroying it drops the watches that are pending: their callbacks are not called.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "process/exit_events.h"
#include "process/process.h"

namespace siteswap::process {

class Watcher {
 public:
  explicit Watcher(const ProcessTable::Options& options);
  ~Watcher();

  bool hasExitEvents() const { return exitEvents_ != nullptr; }
  void watchEnd(const ProcessPtr& process, std::function<void()> onEnd);
  // Calls as soon as the status is known: often that is while the process is a zombie still. See process.h.
  void watchExit(const ProcessPtr& process, int patienceMs, std::function<void(ExitStatus)> onExit);

 private:
  using Clock = std::chrono::steady_clock;

  struct ExitWatch {
    std::function<void(ExitStatus)> onExit;
    int patienceMs;
    Clock::time_point deadline = Clock::time_point::max();  // set when the process is seen to have ended
  };

  // One per pidfd: an epoll takes a descriptor once.
  struct Entry {
    ProcessPtr process;
    std::optional<ExitStatus> told;  // by exitEvents_
    std::vector<std::function<void()>> ends;
    std::vector<ExitWatch> exits;
  };

  Entry& entryFor(const ProcessPtr& process);
  void run();
  int timeoutMs();
  void onEvent(int pidfd, bool reaped);
  void onDeadlines();
  void onExitEvents();
  // False: it may still come to be known.
  bool learnStatus(const Entry& entry, bool reaped, ExitStatus& status) const;  // lock_ held
  void stopWaitingFor(int pidfd);                                               // lock_ held

  const bool disablePidfdInfo_;
  const std::unique_ptr<ExitEvents> exitEvents_;  // null: not there, or not needed
  const std::function<void(const std::string&)> log_;
  int epollFd_ = -1;
  int wakeFd_ = -1;

  std::mutex lock_;  // guards what follows
  bool stopping_ = false;
  std::unordered_map<int, Entry> entries_;  // by pidfd; an entry keeps its descriptor open

  std::thread thread_;
};

}  // namespace siteswap::process
