// Thread id -> Process, with a bounded cache.
//
// Why an identity can be trusted: the pidfd is opened first, then /proc/<pid>/stat is read, then the pidfd is asked
// whether its process still holds its number. If so it held it all the time, and the text spoke of that process.
// Invariant: at most one living Process object per process, whichever of its threads was asked for.
// No system call is made while the lock is held.

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <list>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "process/pidfd.h"
#include "process/proc_files.h"
#include "process/process.h"
#include "process/watch.h"
#include "sys/unique_fd.h"

namespace siteswap::process {
namespace {

constexpr size_t kMaxCachedThreads = 4096;
// A number that changes hands while we look at it; each round costs a few microseconds.
constexpr int kIdentifyAttempts = 4;

// Each cached thread costs two descriptors at most, its own and its process's; a quarter of what we may have is ours.
size_t cacheLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kMaxCachedThreads;
  return std::clamp<size_t>(limit.rlim_cur / 8, 16, kMaxCachedThreads);
}

}  // namespace

Process::Process(pid_t pid, uint64_t startTicks, pid_t parentPid, uid_t uid, bool forked, int pidfd)
    : pid(pid), startTicks(startTicks), parentPid(parentPid), uid(uid), forkedNotExeced(forked), pidfd(pidfd) {}

Process::~Process() {
  close(pidfd);
}

bool Process::ended() const {
  return hasEnded(pidfd);
}

pid_t Process::currentParent() const {
  auto stat = readStat(pid);
  return stat && holdsNumber(pidfd) ? stat->parentPid : 0;
}

bool Process::isForkedNotExecedNow() const {
  auto stat = readStat(pid);
  return stat && holdsNumber(pidfd) && (stat->flags & kForkedNotExeced) != 0;
}

namespace {

Program programOf(const Stat& stat) {
  Program program;
  program.forkedNotExeced = (stat.flags & kForkedNotExeced) != 0;
  if (stat.startStack == 0) return program;
  program.layout = {stat.startStack, stat.startCode, stat.endCode, stat.startData, stat.endData, stat.startBrk};
  return program;
}

}  // namespace

std::optional<Program> Process::program() const {
  auto stat = readStat(pid);
  if (!stat || !holdsNumber(pidfd)) return std::nullopt;
  return programOf(*stat);
}

bool isAnotherProgram(const Program& before, const Program& now) {
  if (before.forkedNotExeced && !now.forkedNotExeced) return true;
  return before.hasLayout() && now.hasLayout() && before.layout != now.layout;
}

std::vector<RunningProgram> OrphanScan::pass() {
  std::unordered_map<pid_t, Stat> all;
  DIR* proc = opendir("/proc");
  complete_ = proc != nullptr;
  if (proc == nullptr) return {};
  decltype(opaque_) opaque;
  while (const dirent* entry = readdir(proc)) {
    const pid_t pid = static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10));
    if (pid <= 0) continue;
    const auto stat = readStat(pid);
    if (!stat) {
      // Gone since it was listed; or not ours to read, then it never was.
      if (faccessat(dirfd(proc), entry->d_name, F_OK, 0) != 0) complete_ = false;
      continue;
    }
    all.emplace(pid, *stat);
    if (stat->startStack != 0 || (stat->flags & kKernelThread) != 0) continue;
    opaque.emplace(pid, stat->startTicks);
    if (!opaque_.contains({pid, stat->startTicks})) complete_ = false;
  }
  closedir(proc);
  opaque_ = std::move(opaque);
  std::vector<RunningProgram> found;
  for (const auto& [pid, stat] : all) {
    const Program program = programOf(stat);
    if (!program.forkedNotExeced || !program.hasLayout()) continue;
    const auto parent = all.find(stat.parentPid);
    if (parent != all.end() && programOf(parent->second).layout == program.layout) continue;
    found.push_back({pid, stat.startTicks, program});
  }
  return found;
}

struct ProcessTable::State {
  explicit State(Options given) : options(std::move(given)), watcher(options) {}

  // Opens and proves the process; null when there is none. `raced` is set when it is worth another try.
  ProcessPtr identify(pid_t pid, bool& raced);
  ProcessPtr alive(pid_t pid);
  // The one object for this process: an earlier one if it is still held by somebody.
  ProcessPtr unify(ProcessPtr fresh);
  // A thread that asked before. Its own pidfd, for one that is not its process's first: null before Linux 6.9.
  struct Asker {
    ProcessPtr process;
    std::shared_ptr<const sys::UniqueFd> pidfd;

    // Is the number one of its process's now?
    bool has(pid_t tid) const { return tid == process->pid || isThreadOf(tid, process->pid); }
    // Is it still this thread's?
    bool isStill(pid_t tid) const { return pidfd ? !hasEnded(pidfd->get()) : !process->ended() && has(tid); }
  };
  Asker cached(pid_t tid);
  void remember(pid_t tid, Asker asker);
  void forget(pid_t tid, const ProcessPtr& process);
  void forgetAll();

  const Options options;
  const size_t limit = cacheLimit();

  std::mutex lock;  // guards what follows
  // Most recently used first.
  std::list<std::pair<pid_t, Asker>> recent;
  std::unordered_map<pid_t, decltype(recent)::iterator> byThread;
  std::unordered_map<pid_t, std::weak_ptr<Process>> byPid;

  Watcher watcher;  // last: its thread ends first
};

ProcessPtr ProcessTable::State::identify(pid_t pid, bool& raced) {
  raced = false;
  int pidfd = openPidfd(pid);
  if (pidfd < 0 && (errno == EMFILE || errno == ENFILE)) {
    if (options.log) options.log("no descriptor left for a process: dropping the cache of processes");
    forgetAll();
    pidfd = openPidfd(pid);
  }
  if (pidfd < 0) return nullptr;
  auto stat = readStat(pid);
  auto status = readStatus(pid);
  if (stat && status && status->threadGroup == pid && holdsNumber(pidfd)) {
    bool forked = (stat->flags & kForkedNotExeced) != 0;
    return ProcessPtr(new Process(pid, stat->startTicks, stat->parentPid, status->uid, forked, pidfd));
  }
  raced = !holdsNumber(pidfd);
  close(pidfd);
  return nullptr;
}

ProcessPtr ProcessTable::State::unify(ProcessPtr fresh) {
  ProcessPtr earlier;
  {
    std::lock_guard guard(lock);
    auto found = byPid.find(fresh->pid);
    if (found != byPid.end()) earlier = found->second.lock();
    if (!earlier || earlier->startTicks != fresh->startTicks) {
      if (byPid.size() > 2 * limit) std::erase_if(byPid, [](const auto& entry) { return entry.second.expired(); });
      byPid[fresh->pid] = fresh;
      return fresh;
    }
  }
  // Start times count in hundredths of a second: only holding the number proves that both are the same.
  if (holdsNumber(earlier->pidfd)) return earlier;
  std::lock_guard guard(lock);
  byPid[fresh->pid] = fresh;
  return fresh;
}

ProcessPtr ProcessTable::State::alive(pid_t pid) {
  if (pid <= 0) return nullptr;
  ProcessPtr known;
  {
    std::lock_guard guard(lock);
    auto found = byPid.find(pid);
    if (found != byPid.end()) known = found->second.lock();
  }
  if (known && holdsNumber(known->pidfd)) return known;
  for (int attempt = 0; attempt < kIdentifyAttempts; attempt++) {
    bool raced = false;
    ProcessPtr fresh = identify(pid, raced);
    if (fresh) return unify(std::move(fresh));
    if (!raced) return nullptr;
  }
  return nullptr;
}

ProcessTable::State::Asker ProcessTable::State::cached(pid_t tid) {
  std::lock_guard guard(lock);
  auto found = byThread.find(tid);
  if (found == byThread.end()) return {};
  recent.splice(recent.begin(), recent, found->second);
  return found->second->second;
}

void ProcessTable::State::remember(pid_t tid, Asker asker) {
  // Released after the lock: the last holder of a process closes its pidfd.
  std::vector<Asker> dropped;
  std::lock_guard guard(lock);
  auto found = byThread.find(tid);
  if (found != byThread.end()) {
    dropped.push_back(std::exchange(found->second->second, std::move(asker)));
    recent.splice(recent.begin(), recent, found->second);
    return;
  }
  recent.emplace_front(tid, std::move(asker));
  byThread[tid] = recent.begin();
  while (recent.size() > limit) {
    byThread.erase(recent.back().first);
    dropped.push_back(std::move(recent.back().second));
    recent.pop_back();
  }
}

void ProcessTable::State::forget(pid_t tid, const ProcessPtr& process) {
  std::lock_guard guard(lock);
  auto found = byThread.find(tid);
  if (found == byThread.end() || found->second->second.process != process) return;
  recent.erase(found->second);
  byThread.erase(found);
}

void ProcessTable::State::forgetAll() {
  decltype(recent) dropped;
  std::lock_guard guard(lock);
  dropped.swap(recent);
  byThread.clear();
}

ProcessTable::ProcessTable(Options options) : state_(std::make_unique<State>(std::move(options))) {}

ProcessTable::~ProcessTable() = default;

ProcessPtr ProcessTable::ofThread(pid_t tid) {
  if (tid <= 0) return nullptr;
  if (const State::Asker known = state_->cached(tid); known.process) {
    if (known.isStill(tid)) return known.process;
    state_->forget(tid, known.process);
  }
  for (int attempt = 0; attempt < kIdentifyAttempts; attempt++) {
    auto status = readStatus(tid);
    if (!status) return nullptr;
    State::Asker asker{state_->alive(status->threadGroup), nullptr};
    if (!asker.process) continue;
    if (tid != asker.process->pid) {
      const int pidfd = openThreadPidfd(tid);
      if (pidfd >= 0) asker.pidfd = std::make_shared<const sys::UniqueFd>(pidfd);
    }
    // Opened before this, so if the thread is the process's now, it is the one that the descriptor is of.
    if (asker.has(tid) && holdsNumber(asker.process->pidfd)) {
      state_->remember(tid, asker);
      return asker.process;
    }
  }
  return nullptr;
}

ProcessPtr ProcessTable::ofPid(pid_t pid) {
  return state_->alive(pid);
}

void ProcessTable::watchEnd(const ProcessPtr& process, std::function<void()> onEnd) {
  state_->watcher.watchEnd(process, std::move(onEnd));
}

bool ProcessTable::hasExitEvents() const {
  return state_->watcher.hasExitEvents();
}

void ProcessTable::watchExit(const ProcessPtr& process, int patienceMs, std::function<void(ExitStatus)> onExit) {
  state_->watcher.watchExit(process, patienceMs, std::move(onExit));
}

}  // namespace siteswap::process
