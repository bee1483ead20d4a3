#include "sandbox/first_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>

#include "sandbox/command.h"
#include "sandbox/descendants.h"
#include "sandbox/message.h"

namespace siteswap::sandbox {
namespace {

// When memory runs out on the host, the package that is tested goes before what the host is there for. Raising needs no
// right.
void offerToOutOfMemoryKiller() {
  const int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  (void)!write(file, "1000", 4);
  close(file);
}

// The supervisor was killed, so its work is done here.
[[noreturn]] void endAlone(Namespaces namespaces, Scratch& scratch) {
  if (namespaces == Namespaces::kOwn) {
    kill(-1, SIGKILL);
    while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
    }
    umount2(scratch.path().c_str(), MNT_DETACH);
  } else {
    endDescendants();
  }
  scratch.remove();
  _exit(1);
}

}  // namespace

void runFirstProcess(const Options& options, Namespaces namespaces, Scratch& scratch, int output, int supervisor,
                     size_t threadsLimit) try {
  // Of what the supervisor has open it keeps only where results go: who waits for their end waits for this process too.
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(nothing, STDIN_FILENO);
  dup2(nothing, STDOUT_FILENO);
  close(nothing);
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  offerToOutOfMemoryKiller();
  if (namespaces == Namespaces::kOwn && !isolateMounts(scratch.path(), options.tree, options.memoryBytes)) {
    sendMessage(supervisor, Message(Message::Kind::kNoNamespaces));
    _exit(1);
  }
  if (!scratch.giveAway()) {
    sendMessage(supervisor, Message(Message::Kind::kFailed, 0, scratch.path() + ": " + std::strerror(errno)));
    _exit(1);
  }

  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, nullptr);
  const int ended = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
  const pid_t command = ended < 0 ? -1 : fork();
  if (command == 0) becomeCommand(options, scratch, output, supervisor, threadsLimit);
  if (command < 0) {
    sendMessage(supervisor, Message(Message::Kind::kFailed, 0, std::string("fork: ") + std::strerror(errno)));
    _exit(1);
  }
  close(output);

  bool running = true;
  for (;;) {
    pollfd events[] = {{.fd = supervisor, .events = POLLIN, .revents = 0},
                       {.fd = ended, .events = POLLIN, .revents = 0}};
    if (poll(events, 2, -1) < 0) continue;
    if (events[1].revents != 0) {
      signalfd_siginfo information;
      while (read(ended, &information, sizeof information) > 0) {
      }
      int status = 0;
      for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid != command) continue;
        running = false;
        sendMessage(supervisor, Message(Message::Kind::kEnded, status));
      }
    }
    if (events[0].revents != 0) {
      Message message;
      if (!receiveMessage(supervisor, message)) endAlone(namespaces, scratch);
      if (message.kind == Message::Kind::kAbort && running) kill(command, SIGABRT);
    }
  }
} catch (const std::exception&) {
  // No memory, or no /proc. The supervisor sees the end of the file.
  _exit(1);
}

}  // namespace siteswap::sandbox
