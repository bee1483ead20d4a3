#include "process/pidfd.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>

namespace siteswap::process {
namespace {

// include/uapi/linux/pidfd.h, as of PIDFD_INFO_SIZE_VER0. Later kernels take this size too.
struct PidfdInfo {
  uint64_t mask;
  uint64_t cgroupid;
  uint32_t pid, tgid, ppid;
  uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exitCode;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr uint64_t kPidfdInfoExit = 1 << 3;
constexpr unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);

constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD

constexpr int kProbeExitCode = 7;

}  // namespace

// No exit signal: the host process (Node) must not see a SIGCHLD for a child that is not its own. A raw system call:
// the C library's clone() wants a stack, and its fork() sends the signal and runs handlers.
pid_t startAndReapChild(int* pidfd) {
  const long pid = syscall(SYS_clone, pidfd != nullptr ? CLONE_PIDFD : 0, nullptr, pidfd, nullptr, nullptr);
  if (pid == 0) {
    syscall(SYS_exit_group, kProbeExitCode);
    __builtin_unreachable();
  }
  int status = 0;
  while (pid > 0 && waitpid(static_cast<pid_t>(pid), &status, __WALL) < 0 && errno == EINTR) {
  }
  return static_cast<pid_t>(pid);
}

int openPidfd(pid_t pid) {
  return static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
}

int openThreadPidfd(pid_t tid) {
  return static_cast<int>(syscall(SYS_pidfd_open, tid, kPidfdThread));
}

bool hasEnded(int pidfd) {
  pollfd waiting{.fd = pidfd, .events = POLLIN, .revents = 0};
  return poll(&waiting, 1, 0) > 0;
}

bool holdsNumber(int pidfd) {
  // Signal 0 reaches zombies. EPERM also says that it is there.
  return syscall(SYS_pidfd_send_signal, pidfd, 0, nullptr, 0) == 0 || errno != ESRCH;
}

std::optional<ExitStatus> reapedStatus(int pidfd) {
  PidfdInfo info{};
  info.mask = kPidfdInfoExit;
  if (ioctl(pidfd, kPidfdGetInfo, &info) != 0 || !(info.mask & kPidfdInfoExit)) return std::nullopt;
  return decodeStatus(info.exitCode);
}

ExitStatus decodeStatus(int status) {
  ExitStatus decoded;
  if (WIFEXITED(status)) {
    decoded.exitCode = WEXITSTATUS(status);
  } else if (WIFSIGNALED(status)) {
    decoded.signal = WTERMSIG(status);
  }
  return decoded;
}

namespace {

// The kernels 6.13 and 6.14 have the ioctl without the exit status, so it is tried on a child that was reaped.
bool probePidfdInfo() {
  int pidfd = -1;
  if (startAndReapChild(&pidfd) < 0) return false;
  const auto reported = reapedStatus(pidfd);
  close(pidfd);
  return reported && reported->exitCode == kProbeExitCode;
}

}  // namespace

bool hasPidfdInfo() {
  static const bool known = probePidfdInfo();
  return known;
}

}  // namespace siteswap::process
