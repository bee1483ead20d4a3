// Who is asking: processes behind FUSE's thread ids, and when they end.
//
// A Process is identified by (pid, start time) and held by a pidfd, so a reused number is never mistaken for it.
// Reads /proc/<tid>/{status,stat} only: never cmdline, environ or maps, which take the caller's mmap_lock, and the
// caller may be holding that while it waits for a page from us. (readEnvironmentVariable does: see there.)
#pragma once

#include <sys/types.h>

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace siteswap::process {

// Decoded wait(2) status. Neither set: the kernel could not tell.
struct ExitStatus {
  std::optional<int> exitCode;
  std::optional<int> signal;
};

// Which program a process runs. exec(2) lays a program's code, data and stack out anew, at addresses that are random
// for each exec (unless somebody switched that off); forks have their parent's. What a program itself may move
// (arguments, environment: setproctitle) does not count.
struct Program {
  std::array<uint64_t, 6> layout{};  // all 0: we may not know
  bool forkedNotExeced = false;      // PF_FORKNOEXEC
  bool hasLayout() const { return layout[0] != 0; }
};
// Has there been an exec between the two? False when that can't be known.
bool isAnotherProgram(const Program& before, const Program& now);

class Process {
 public:
  ~Process();
  const pid_t pid;            // thread-group id
  const uint64_t startTicks;  // /proc/<pid>/stat field 22
  const pid_t parentPid;      // when first seen
  const uid_t uid;
  const bool forkedNotExeced;  // PF_FORKNOEXEC when first seen
  const int pidfd;
  // Has it ended (a zombie counts)? One poll(2) of the pidfd.
  bool ended() const;
  // Present parent (0 if gone); PF_FORKNOEXEC now. One read of /proc/<pid>/stat, validated by the pidfd after it.
  pid_t currentParent() const;
  bool isForkedNotExecedNow() const;
  // What it runs now; nothing when it is gone. One read of /proc/<pid>/stat.
  std::optional<Program> program() const;

 private:
  friend class ProcessTable;
  Process(pid_t pid, uint64_t startTicks, pid_t parentPid, uid_t uid, bool forked, int pidfd);
};

using ProcessPtr = std::shared_ptr<Process>;

inline bool isSame(const ProcessPtr& a, const ProcessPtr& b) {
  return a && b && a->pid == b->pid && a->startTicks == b->startTicks;
}

class ProcessTable {
 public:
  struct Options {
    bool disablePidfdInfo = false;
    bool disableExitEvents = false;
    std::function<void(const std::string&)> log;
  };
  explicit ProcessTable(Options options);
  ~ProcessTable();

  // The process of a thread that is waiting in a request of ours right now. Cached by thread id; a cached answer is
  // checked (pidfd not ended, and the thread still belongs to it). Null for tid 0 or one that can't be seen.
  ProcessPtr ofThread(pid_t tid);
  // The process with this pid, or null when there is none.
  ProcessPtr ofPid(pid_t pid);

  // Calls `onEnd` once, from the watcher thread, when the process has ended (zombie: POLLIN on the pidfd). May be
  // called at any time, also when it has already ended. The Process is kept alive until then.
  void watchEnd(const ProcessPtr& process, std::function<void()> onEnd);
  // As above but waits until it was reaped (POLLHUP) for up to `patienceMs` after its end, to learn its exit status:
  // PIDFD_GET_INFO with PIDFD_INFO_EXIT (Linux 6.15), else the process connector (see exit_events.h), else field
  // exit_code of /proc/<pid>/stat while it is a zombie.
  void watchExit(const ProcessPtr& process, int patienceMs, std::function<void(ExitStatus)> onExit);
  // It listens to the process connector.
  bool hasExitEvents() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct RunningProgram {
  pid_t pid;
  uint64_t startTicks;
  Program program;
};
// Looks for the processes that have forked and not called exec since, and whose parents have ended: whoever is their
// parent now is another program. Each pass reads all of /proc: for rare occasions.
//
// A process may end, and what it has just forked be missed, between the listing of /proc and the reading of its line. A
// pass is complete when that did not happen: whoever was alive when it began was read, and so whoever is missed
// descends from one that it found, or that is no orphan.
class OrphanScan {
 public:
  std::vector<RunningProgram> pass();
  bool isComplete() const { return complete_; }

 private:
  // What showed no layout in the latest pass: not permitted, or a zombie. What showed none before can't have forked
  // since, as far as we may know.
  std::set<std::pair<pid_t, uint64_t>> opaque_;
  bool complete_ = false;
};

// The value of one variable of the process's environment at exec. May block on the caller's mmap_lock: never call it
// from the reader's thread (Request::resign() first) or with a lock held.
std::optional<std::string> readEnvironmentVariable(pid_t pid, const std::string& name);

// PIDFD_GET_INFO knows exit status here.
bool hasPidfdInfo();

}  // namespace siteswap::process
