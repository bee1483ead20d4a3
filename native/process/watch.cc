#include "process/watch.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "process/pidfd.h"
#include "process/proc_files.h"

namespace siteswap::process {
namespace {

// Field exit_code of a zombie. Without ptrace access the kernel writes 0 there, so the access is proven first
// by a link that needs the same one (PTRACE_MODE_READ_FSCREDS).
std::optional<ExitStatus> zombieStatus(const Process& process) {
  char path[64];
  char target[64];
  std::snprintf(path, sizeof path, "/proc/%d/ns/user", process.pid);
  if (readlink(path, target, sizeof target) < 0) return std::nullopt;
  auto stat = readStat(process.pid);
  if (!stat || stat->state != 'Z' || !holdsNumber(process.pidfd)) return std::nullopt;
  return decodeStatus(stat->exitCode);
}

}  // namespace

Watcher::Watcher(const ProcessTable::Options& options)
    : disablePidfdInfo_(options.disablePidfdInfo || !hasPidfdInfo()),
      exitEvents_(disablePidfdInfo_ && !options.disableExitEvents ? ExitEvents::open() : nullptr),
      log_(options.log) {
  epollFd_ = epoll_create1(EPOLL_CLOEXEC);
  wakeFd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_event wake{.events = EPOLLIN, .data = {.fd = wakeFd_}};
  if (epollFd_ < 0 || wakeFd_ < 0 || epoll_ctl(epollFd_, EPOLL_CTL_ADD, wakeFd_, &wake) != 0) {
    std::fprintf(stderr, "siteswap: can't watch processes: %s\n", std::strerror(errno));
    std::abort();
  }
  if (exitEvents_) {
    epoll_event wanted{.events = EPOLLIN, .data = {.fd = exitEvents_->fd()}};
    epoll_ctl(epollFd_, EPOLL_CTL_ADD, exitEvents_->fd(), &wanted);
  }
  // Signals are for the host program's own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watcher::~Watcher() {
  {
    std::lock_guard guard(lock_);
    stopping_ = true;
  }
  eventfd_write(wakeFd_, 1);
  thread_.join();
  close(epollFd_);
  close(wakeFd_);
}

// Lock held. Also asks for POLLIN (again): of a process that has ended it is reported at once.
Watcher::Entry& Watcher::entryFor(const ProcessPtr& process) {
  auto [found, added] = entries_.try_emplace(process->pidfd);
  if (added) found->second.process = process;
  epoll_event wanted{.events = EPOLLIN, .data = {.fd = process->pidfd}};
  if (epoll_ctl(epollFd_, added ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, process->pidfd, &wanted) != 0 && log_) {
    log_("can't watch process " + std::to_string(process->pid) + ": " + std::strerror(errno));
  }
  return found->second;
}

void Watcher::watchEnd(const ProcessPtr& process, std::function<void()> onEnd) {
  std::lock_guard guard(lock_);
  entryFor(process).ends.push_back(std::move(onEnd));
}

void Watcher::watchExit(const ProcessPtr& process, int patienceMs, std::function<void(ExitStatus)> onExit) {
  std::lock_guard guard(lock_);
  entryFor(process).exits.push_back({std::move(onExit), patienceMs});
}

void Watcher::run() {
  for (;;) {
    epoll_event events[64];
    int count = epoll_wait(epollFd_, events, 64, timeoutMs());
    {
      std::lock_guard guard(lock_);
      if (stopping_) return;
    }
    for (int i = 0; i < count; i++) {
      const int fd = events[i].data.fd;
      if (exitEvents_ && fd == exitEvents_->fd()) {
        onExitEvents();
      } else if (fd != wakeFd_) {
        onEvent(fd, (events[i].events & EPOLLHUP) != 0);
      }
    }
    onDeadlines();
  }
}

int Watcher::timeoutMs() {
  std::lock_guard guard(lock_);
  auto next = Clock::time_point::max();
  for (const auto& [pidfd, entry] : entries_) {
    for (const auto& watch : entry.exits) next = std::min(next, watch.deadline);
  }
  if (next == Clock::time_point::max()) return -1;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
  return static_cast<int>(std::clamp<decltype(left)>(left, 0, INT_MAX));
}

bool Watcher::learnStatus(const Entry& entry, bool reaped, ExitStatus& status) const {
  const Process& process = *entry.process;
  if (entry.told) return status = *entry.told, true;
  if (!reaped) {
    if (auto known = zombieStatus(process)) return status = *known, true;
    reaped = !holdsNumber(process.pidfd);  // since the event; and kernels before 6.9 have no POLLHUP
  }
  if (!reaped) return false;
  if (disablePidfdInfo_) return exitEvents_ == nullptr;  // its event comes just after its end, or was lost
  // With no status after the reaping there will never be one.
  if (auto known = reapedStatus(process.pidfd)) status = *known;
  return true;
}

void Watcher::stopWaitingFor(int pidfd) {
  epoll_ctl(epollFd_, EPOLL_CTL_DEL, pidfd, nullptr);
}

// `pidfd` is a zombie's or a reaped process's.
void Watcher::onEvent(int pidfd, bool reaped) {
  std::vector<std::function<void()>> ends;
  {
    std::lock_guard guard(lock_);
    auto found = entries_.find(pidfd);
    if (found == entries_.end()) return;
    ends.swap(found->second.ends);
  }
  for (auto& onEnd : ends) onEnd();

  ExitStatus status;
  std::vector<ExitWatch> exits;
  {
    std::lock_guard guard(lock_);
    const auto found = entries_.find(pidfd);
    if (found == entries_.end()) return;
    Entry& entry = found->second;
    if (learnStatus(entry, reaped, status)) {
      exits.swap(entry.exits);
    } else {
      auto now = Clock::now();
      for (auto& watch : entry.exits) {
        if (watch.deadline == Clock::time_point::max()) {
          watch.deadline = now + std::chrono::milliseconds(watch.patienceMs);
        }
      }
    }
    if (entry.exits.empty() && entry.ends.empty()) {
      stopWaitingFor(pidfd);
      entries_.erase(found);
    } else if (entry.ends.empty()) {
      if (reaped) {
        stopWaitingFor(pidfd);  // POLLHUP would be reported for ever
      } else {
        // POLLIN would be; POLLHUP is reported unasked.
        epoll_event wanted{.events = 0, .data = {.fd = pidfd}};
        epoll_ctl(epollFd_, EPOLL_CTL_MOD, pidfd, &wanted);
      }
    }
  }
  for (auto& watch : exits) watch.onExit(status);
}

void Watcher::onExitEvents() {
  std::vector<std::pair<ExitStatus, std::vector<ExitWatch>>> due;
  {
    std::lock_guard guard(lock_);
    exitEvents_->drain([&](pid_t pid, ExitStatus status) {
      for (auto& [pidfd, entry] : entries_) {
        // The number is its own until it is reaped, and its event is of before any other process could have it.
        if (entry.process->pid != pid || entry.told || !entry.process->ended()) continue;
        entry.told = status;
        // Its end was noticed already, and only this was missing. Otherwise onEvent() comes yet.
        const bool isNoticed = std::any_of(entry.exits.begin(), entry.exits.end(), [](const ExitWatch& watch) {
          return watch.deadline != Clock::time_point::max();
        });
        if (isNoticed) due.emplace_back(status, std::exchange(entry.exits, {}));
      }
    });
    std::erase_if(entries_, [&](const auto& item) {
      const auto& [pidfd, entry] = item;
      const bool isDone = entry.told && entry.exits.empty() && entry.ends.empty();
      if (isDone) stopWaitingFor(pidfd);
      return isDone;
    });
  }
  for (auto& [status, exits] : due) {
    for (auto& watch : exits) watch.onExit(status);
  }
}

// Patience is over: a parent that does not reap, and no access to its zombie; or a kernel that does not tell of
// reaping.
void Watcher::onDeadlines() {
  struct Due {
    ExitStatus status;
    std::vector<ExitWatch> exits;
  };
  std::vector<Due> due;
  {
    std::lock_guard guard(lock_);
    auto now = Clock::now();
    for (auto found = entries_.begin(); found != entries_.end();) {
      Entry& entry = found->second;
      auto late = std::stable_partition(entry.exits.begin(), entry.exits.end(),
                                        [&](const ExitWatch& watch) { return watch.deadline > now; });
      if (late != entry.exits.end()) {
        ExitStatus status;
        learnStatus(entry, false, status);
        due.push_back({status, {std::make_move_iterator(late), std::make_move_iterator(entry.exits.end())}});
        entry.exits.erase(late, entry.exits.end());
      }
      if (entry.exits.empty() && entry.ends.empty()) {
        stopWaitingFor(found->first);
        found = entries_.erase(found);
      } else {
        ++found;
      }
    }
  }
  for (auto& [status, exits] : due) {
    for (auto& watch : exits) watch.onExit(status);
  }
}

}  // namespace siteswap::process
