#include "sandbox/descendants.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "process/pidfd.h"
#include "sys/unique_fd.h"

namespace siteswap::sandbox {
namespace {

// The kernel lists processes by ascending number.
template <class Found>
void eachProcess(Found found) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir("/proc"), closedir);
  if (!directory) throw std::runtime_error("/proc can't be read");
  while (const dirent* entry = readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    pid_t pid = 0;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error == std::errc() && end == name.data() + name.size()) found(pid);
  }
}

bool isZombie(const process::Stat& stat) {
  return stat.state == 'Z' || stat.state == 'X';
}

// By a descriptor, and looked at once more: the number may be another process's by now.
void endProcess(const process::Stat& stat) {
  const sys::UniqueFd pidfd(process::openPidfd(stat.pid));
  if (!pidfd) {
    // A container's filter of system calls may be older than this one.
    if (errno == EPERM || errno == ENOSYS) kill(stat.pid, SIGKILL);
    return;
  }
  const auto again = process::readStat(stat.pid);
  if (again && again->startTicks == stat.startTicks) syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
}

}  // namespace

void eachDescendant(const std::function<void(const process::Stat&)>& found) {
  // Zombies lead to their children too: those that are not theirs any more are ours.
  std::unordered_set<pid_t> family{getpid()};
  std::vector<process::Stat> others;
  const auto join = [&](const process::Stat& stat) {
    family.insert(stat.pid);
    if (!isZombie(stat)) found(stat);
  };
  eachProcess([&](pid_t pid) {
    const auto stat = process::readStat(pid);
    if (!stat || pid == getpid()) return;
    if (family.contains(stat->parentPid)) {
      join(*stat);
    } else {
      others.push_back(*stat);
    }
  });
  // A child whose number is lower than its parent's: numbers wrap around.
  for (bool grown = true; grown;) {
    grown = false;
    for (const process::Stat& stat : others) {
      if (family.contains(stat.pid) || !family.contains(stat.parentPid)) continue;
      join(stat);
      grown = true;
    }
  }
}

uint64_t residentBytes(pid_t pid) {
  const auto text = process::readProcFile(pid, "statm");
  if (!text) return 0;
  const size_t space = text->find(' ');
  uint64_t pages = 0;
  if (space != std::string::npos) std::from_chars(text->data() + space + 1, text->data() + text->size(), pages);
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

uint64_t proportionalBytes(pid_t pid) {
  const auto text = process::readProcFile(pid, "smaps_rollup");
  const size_t line = text ? text->find("\nPss:") : std::string::npos;
  if (line == std::string::npos) return residentBytes(pid);
  const size_t number = text->find_first_of("0123456789", line);
  uint64_t kilobytes = 0;
  if (number != std::string::npos) std::from_chars(text->data() + number, text->data() + text->size(), kilobytes);
  return kilobytes * 1024;
}

void endDescendants() {
  for (;;) {
    bool any = false;
    eachDescendant([&](const process::Stat& stat) {
      any = true;
      endProcess(stat);
    });
    pid_t reaped = 0;
    while ((reaped = waitpid(-1, nullptr, WNOHANG)) > 0) {
    }
    // -1: no children. A zombie whose parent has not ended yet is nobody's but that parent's.
    if (!any && reaped < 0) return;
    usleep(1000);
  }
}

size_t threadsOfUser(uid_t uid) {
  size_t threads = 0;
  eachProcess([&](pid_t pid) {
    const std::string path = "/proc/" + std::to_string(pid) + "/task";
    struct stat tasks {};
    // A link for each thread, and the usual two.
    if (stat(path.c_str(), &tasks) == 0 && tasks.st_uid == uid && tasks.st_nlink > 2) threads += tasks.st_nlink - 2;
  });
  return threads;
}

}  // namespace siteswap::sandbox
