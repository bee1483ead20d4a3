#include "sandbox/command.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "process/proc_files.h"
#include "sandbox/landlock.h"
#include "sandbox/message.h"

namespace siteswap::sandbox {
namespace {

constexpr int kExitNotStarted = 127;
constexpr uint64_t kFileBytes = 1 << 30;
constexpr uint64_t kOpenFiles = 4096;

// Throws what is to be told.
struct Failure {
  std::string what;
};
void need(bool done, const char* what) {
  if (!done) throw Failure{std::string(what) + ": " + std::strerror(errno)};
}

void limit(int resource, uint64_t value, const char* name) {
  rlimit now{};
  need(getrlimit(static_cast<__rlimit_resource>(resource), &now) == 0, name);
  const rlim_t wanted = std::min<rlim_t>(value, now.rlim_max);
  const rlimit limited{.rlim_cur = wanted, .rlim_max = wanted};
  need(setrlimit(static_cast<__rlimit_resource>(resource), &limited) == 0, name);
}

void setLimits(const Options& options, size_t threadsLimit) {
  limit(RLIMIT_CORE, 0, "core size limit");
  limit(RLIMIT_FSIZE, kFileBytes, "file size limit");
  limit(RLIMIT_NOFILE, kOpenFiles, "open files limit");
  // The real limits are the supervisor's: it counts what the processes use together. These are what holds between two
  // of its looks, or when it is gone, and must not hit what is allowed. Memory: writable pages, whether they are
  // touched or not (stacks and arenas of threads, mostly), so four times as much; not address space, which is no
  // memory. Time: of all CPUs. Threads: they count like processes here, with all that the user runs elsewhere; root has
  // no such limit.
  limit(RLIMIT_DATA, options.memoryBytes > RLIM_INFINITY / 4 ? RLIM_INFINITY : 4 * options.memoryBytes, "memory limit");
  const uint64_t seconds = static_cast<uint64_t>(options.timeMs) / 1000 + 2;
  limit(RLIMIT_CPU, seconds * static_cast<uint64_t>(std::max(1, get_nprocs())), "CPU time limit");
  if (options.uid != 0) limit(RLIMIT_NPROC, threadsLimit, "process limit");
}

// Root keeps what an installer run by root has and the test of a package needs: to read any file. All else that makes
// root more than an owner of files goes (mounting, tracing, killing, modules, devices, networks, changing owners).
constexpr int kKeptByRoot = CAP_DAC_READ_SEARCH;

// The kernel lets nobody drop groups in a user namespace whose groups were mapped without a right to do so (every one
// of `unshare --user --map-root-user`): a group may be there to take rights away, see user_namespaces(7).
bool groupsAreFixed() {
  const auto answer = process::readProcFile(getpid(), "setgroups");
  return answer && answer->starts_with("deny");
}

void dropGroups() {
  if (setgroups(0, nullptr) == 0) return;
  const int failure = errno;
  // A container's root may lack CAP_SETGID; it must then have no groups to lose. Where they are fixed, the installer
  // could not drop them either: they are no more than it had.
  if (getgroups(0, nullptr) == 0 || (failure == EPERM && groupsAreFixed())) return;
  errno = failure;
  need(false, "setgroups");
}

void dropRights(const Options& options) {
  if (geteuid() != 0) {
    if (options.uid == getuid() && options.gid == getgid()) return;
    errno = EPERM;
    need(false, "becoming another user needs root");
  }
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (capability == kKeptByRoot && options.uid == 0) continue;
    // Without CAP_SETPCAP (a container): what remains can't be gained, by PR_SET_NO_NEW_PRIVS.
    (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
  (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  dropGroups();
  need(setresgid(options.gid, options.gid, options.gid) == 0, "setresgid");
  need(setresuid(options.uid, options.uid, options.uid) == 0, "setresuid");

  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  need(syscall(SYS_capget, &header, data) == 0, "capget");
  for (int word = 0; word < _LINUX_CAPABILITY_U32S_3; ++word) {
    const uint32_t kept = options.uid == 0 && word == kKeptByRoot / 32 ? 1U << (kKeptByRoot % 32) : 0;
    data[word].permitted &= kept;
    data[word].effective = data[word].permitted;
    data[word].inheritable = 0;
  }
  need(syscall(SYS_capset, &header, data) == 0, "capset");
}

void resetSignals() {
  // Ignored signals stay ignored over an exec, and blocked ones blocked.
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

std::vector<char*> pointersTo(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

void connectStandardFiles(int output) {
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  need(nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0, "/dev/null");
  need(dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0, "output");
}

void closeOthersOnExec() {
  if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 4 /* CLOSE_RANGE_CLOEXEC, Linux 5.11 */) == 0) return;
  // Ours are so already, and so are those of who started us, if it is Node.
  for (int fd = STDERR_FILENO + 1; fd < static_cast<int>(kOpenFiles); ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

}  // namespace

void becomeCommand(const Options& options, const Scratch& scratch, int output, int report, size_t threadsLimit) {
  try {
    const pid_t parent = getppid();
    resetSignals();
    setsid();
    umask(077);
    connectStandardFiles(output);
    setLimits(options, threadsLimit);
    dropRights(options);
    // It is cleared by a change of user. The parent may have ended before it was set.
    need(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent, "end with the sandbox");
    need(scratch.enter(), scratch.path().c_str());
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privileges");
    const int landlock = restrictWriting();
    need(landlock >= 0, "Landlock");
    // `report` too: from the exec on, only CMD's end says anything.
    closeOthersOnExec();
    sendMessage(report, Message(Message::Kind::kConfined, landlock));

    const std::vector<char*> arguments = pointersTo(options.command);
    const std::vector<char*> environment = pointersTo(options.environment);
    // The program is looked for in CMD's PATH, not in ours.
    environ = const_cast<char**>(environment.data());
    execvpe(arguments[0], arguments.data(), environment.data());
    const std::string why = options.command[0] + ": " + std::strerror(errno);
    sendMessage(report, Message(Message::Kind::kNotStarted, 0, why));
  } catch (const Failure& failure) {
    sendMessage(report, Message(Message::Kind::kFailed, 0, failure.what));
  }
  _exit(kExitNotStarted);
}

}  // namespace siteswap::sandbox
