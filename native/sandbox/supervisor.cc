#include "sandbox/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <string_view>

#include "sandbox/descendants.h"
#include "sandbox/first_process.h"
#include "sandbox/kept_output.h"
#include "sandbox/landlock.h"
#include "sandbox/message.h"
#include "sandbox/namespaces.h"
#include "sandbox/scratch.h"
#include "sys/clock.h"
#include "sys/unique_fd.h"

namespace siteswap::sandbox {
namespace {

constexpr int kResultFd = 3;
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kLookEveryMs = 50;
// A look reads all of /proc: on a host with many processes, looks are rarer, so that they take no more of a CPU than
// this.
constexpr int64_t kLookShare = 20;
// How long CMD has to say where it is when its time is over, before it is killed.
constexpr int64_t kAbortMs = 300;
// Helpers that end when they see CMD gone (multiprocessing's resource tracker) are not left running.
constexpr int64_t kLeavingMs = 500;

int64_t nowMs() {
  return sys::monotonicNs() / kNsPerMs;
}

void writeAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t size = write(fd, text.data(), text.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return;  // who should read it is gone
    text.remove_prefix(static_cast<size_t>(size));
  }
}

std::string quoted(std::string_view text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') json += '\\';
    json += static_cast<unsigned char>(c) >= ' ' && c != '\x7f' ? c : '?';
  }
  return json + '"';
}

class Supervisor {
 public:
  explicit Supervisor(const Options& options)
      : options_(options), scratch_(options.scratch, options.uid, options.gid), output_(options.outputBytes) {}

  int run() {
    writeAll(kResultFd, "{\"ready\":true}\n");
    if (!waitForGo()) {
      scratch_.remove();
      return 1;
    }
    start(Namespaces::kOwn);
    watch();
    if (kind_ == "timed-out") letItSayWhere();
    if (ended_ && kind_ != "timed-out") leftovers_ = countLeftovers();
    endAll();
    drainOutput();
    scratch_.remove();
    if (cancelled_) return 1;
    report();
    return 0;
  }

 private:
  bool waitForGo() {
    char byte;
    ssize_t size;
    do {
      size = read(STDIN_FILENO, &byte, 1);
    } while (size < 0 && errno == EINTR);
    return size == 1;
  }

  void start(Namespaces namespaces) {
    int sockets[2], pipes[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) return fail("socketpair");
    first_.reset(sockets[0]);
    const sys::UniqueFd other(sockets[1]);
    // A real pipe: a program may open /dev/stdout, which it can't if it is a socket.
    if (pipe2(pipes, O_CLOEXEC) != 0) return fail("pipe");
    printed_.reset(pipes[0]);
    const sys::UniqueFd output(pipes[1]);
    fcntl(printed_.get(), F_SETFL, O_NONBLOCK);
    // For the same reason it is its owner's.
    if (geteuid() == 0 && fchown(output.get(), options_.uid, options_.gid) != 0) return fail("pipe");

    // All the user's threads now, CMD's, and some room: see setLimits().
    const size_t threadsLimit =
        threadsOfUser(options_.uid) + options_.processes + 128 + 4 * static_cast<size_t>(std::max(1, get_nprocs()));
    startedMs_ = nowMs();
    namespaces_ = namespaces;
    firstPid_ = forkInto(namespaces);
    if (firstPid_ == 0) {
      first_.reset();
      printed_.reset();
      runFirstProcess(options_, namespaces, scratch_, output.get(), other.get(), threadsLimit);
    }
    if (firstPid_ < 0 && namespaces == Namespaces::kOwn) return start(Namespaces::kShared);
    if (firstPid_ < 0) return fail("fork");
  }

  void fail(const std::string& what) { decide("sandbox-failed", what + ": " + std::strerror(errno)); }

  // The first thing that happens is what is told.
  void decide(const char* kind, std::string reason = "") {
    if (!kind_.empty()) return;
    kind_ = kind;
    reason_ = std::move(reason);
    durationMs_ = nowMs() - startedMs_;
  }

  void watch() {
    const int64_t deadline = startedMs_ + options_.timeMs;
    int64_t lookAt = startedMs_ + kLookEveryMs;
    while (kind_.empty() && !cancelled_) {
      const int64_t now = nowMs();
      if (now >= deadline) return decide("timed-out");
      if (now >= lookAt) {
        look();
        lookAt = nowMs() + std::max(kLookEveryMs, kLookShare * (nowMs() - now));
      }
      waitForEvents(std::min(deadline, lookAt) - nowMs());
    }
  }

  void waitForEvents(int64_t timeoutMs) {
    pollfd events[] = {{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                       {.fd = first_.get(), .events = POLLIN, .revents = 0},
                       {.fd = printed_.get(), .events = POLLIN, .revents = 0}};
    if (poll(events, 3, static_cast<int>(std::clamp<int64_t>(timeoutMs, 0, 60'000))) <= 0) return;
    char byte;
    if (events[0].revents != 0 && read(STDIN_FILENO, &byte, 1) <= 0) cancelled_ = true;
    if (events[2].revents != 0) readOutput();
    if (events[1].revents != 0) handleMessage();
  }

  void handleMessage() {
    Message message;
    if (!receiveMessage(first_.get(), message)) {
      // Nobody but root or the kernel, when memory runs out, can have done that.
      first_.reset();
      return decide("sandbox-failed", "the sandbox's first process was killed");
    }
    switch (message.kind) {
      case Message::Kind::kNoNamespaces:
        waitpid(firstPid_, nullptr, 0);
        return start(Namespaces::kShared);
      case Message::Kind::kConfined:
        landlock_ = message.status;
        return;
      case Message::Kind::kFailed:
        return decide("sandbox-failed", message.text);
      case Message::Kind::kNotStarted:
        return decide("failed-to-start", message.text);
      case Message::Kind::kEnded:
        status_ = message.status;
        ended_ = true;
        return decide(WIFEXITED(status_) ? "exited" : "signalled");
      case Message::Kind::kAbort:
        return;
    }
  }

  // False at the end of the file, or when there is nothing for now.
  bool readOutput() {
    char chunk[16384];
    const ssize_t size = read(printed_.get(), chunk, sizeof chunk);
    if (size > 0) output_.append({chunk, static_cast<size_t>(size)});
    // Else poll() would return at once, again and again.
    if (size == 0) printed_.reset();
    return size > 0;
  }

  void drainOutput() {
    while (printed_ && readOutput()) {
    }
  }

  void look() {
    size_t processes = 0;
    uint64_t resident = 0, proportional = 0;
    eachDescendant([&](const process::Stat& stat) {
      if (stat.pid == firstPid_) return;
      ++processes;
      resident += residentBytes(stat.pid);
    });
    if (processes > options_.processes) return decide("too-many-processes");
    if (resident <= options_.memoryBytes) return;
    // Forks share most of their pages: asked only now, because it is slow.
    eachDescendant([&](const process::Stat& stat) {
      if (stat.pid != firstPid_) proportional += proportionalBytes(stat.pid);
    });
    if (proportional > options_.memoryBytes) decide("too-much-memory");
  }

  // Python's faulthandler prints where each thread is.
  void letItSayWhere() {
    if (!first_) return;
    sendMessage(first_.get(), Message(Message::Kind::kAbort));
    const int64_t until = nowMs() + kAbortMs;
    while (!ended_ && !cancelled_ && first_ && nowMs() < until) waitForEvents(until - nowMs());
  }

  size_t countLeftovers() {
    const int64_t until = nowMs() + kLeavingMs;
    for (;;) {
      size_t left = 0;
      eachDescendant([&](const process::Stat& stat) { left += stat.pid == firstPid_ ? 0 : 1; });
      if (left == 0 || left > options_.processes || nowMs() >= until || cancelled_) return left;
      waitForEvents(10);
    }
  }

  void endAll() {
    if (firstPid_ > 0 && namespaces_ == Namespaces::kOwn) {
      // The kernel ends the others, and lets it be reaped when all are gone.
      kill(firstPid_, SIGKILL);
      while (waitpid(firstPid_, nullptr, 0) < 0 && errno == EINTR) {
      }
    }
    endDescendants();
  }

  void report() {
    const std::string text = output_.text();
    writeAll(STDOUT_FILENO, text);
    const bool exited = ended_ && kind_ == "exited", signalled = ended_ && kind_ == "signalled";
    const bool isolated = namespaces_ == Namespaces::kOwn;
    std::string json = "{\"kind\":" + quoted(kind_);
    json += ",\"code\":" + (exited ? std::to_string(WEXITSTATUS(status_)) : "null");
    json += ",\"signal\":" + (signalled ? std::to_string(WTERMSIG(status_)) : "null");
    json += ",\"reason\":" + quoted(reason_);
    json += ",\"durationMs\":" + std::to_string(durationMs_);
    json += ",\"leftovers\":" + std::to_string(leftovers_);
    json += std::string(",\"contained\":") + (isolated || landlock_ > 0 ? "true" : "false");
    writeAll(kResultFd, json + "}\n");
  }

  const Options& options_;
  Scratch scratch_;
  KeptOutput output_;
  Namespaces namespaces_ = Namespaces::kShared;
  sys::UniqueFd first_, printed_;
  pid_t firstPid_ = -1;
  int64_t startedMs_ = 0, durationMs_ = 0;
  int landlock_ = 0;
  int status_ = 0;
  bool ended_ = false, cancelled_ = false;
  std::string kind_, reason_;
  size_t leftovers_ = 0;
};

}  // namespace

int supervise(const Options& options) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_DFL);
  umask(077);
  // Ctrl-C is for the one that started it, whose end is seen on descriptor 0.
  setsid();
  syscall(SYS_close_range, kResultFd + 1, ~0U, 0);
  fcntl(kResultFd, F_SETFD, FD_CLOEXEC);
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  // A thousand processes that fork must not keep it from looking. Not for what it starts; only root may.
  const sched_param lowest{.sched_priority = 1};
  sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest);
  return Supervisor(options).run();
}

int printCapabilities() {
  const std::string json = "{\"landlock\":" + std::to_string(landlockVersion()) +
                           ",\"namespaces\":" + (namespacesWork() ? "true" : "false") + "}\n";
  writeAll(STDOUT_FILENO, json);
  return 0;
}

}  // namespace siteswap::sandbox
