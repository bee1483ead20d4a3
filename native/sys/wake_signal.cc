#include "sys/wake_signal.h"

#include <initializer_list>

namespace siteswap::sys {
namespace {

void doNothing(int) {}

int chooseSignal() {
  // From the top: libraries that take a real-time signal take the lowest.
  for (int number = SIGRTMAX - 1; number > SIGRTMIN; --number) {
    struct sigaction current {};
    if (sigaction(number, nullptr, &current) != 0) continue;
    if ((current.sa_flags & SA_SIGINFO) != 0 || current.sa_handler != SIG_DFL) continue;
    struct sigaction action {};
    action.sa_handler = doNothing;  // no SA_RESTART: the call is to end
    sigemptyset(&action.sa_mask);
    if (sigaction(number, &action, nullptr) == 0) return number;
  }
  return SIGRTMAX - 1;
}

int wakeSignal() {
  static const int number = chooseSignal();
  return number;
}

}  // namespace

void installWakeSignal() {
  wakeSignal();
}

void sendWakeSignal(pthread_t thread) {
  pthread_kill(thread, wakeSignal());
}

WakeSignalOnly::WakeSignalOnly() {
  sigset_t blocked;
  sigfillset(&blocked);
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, wakeSignal()}) {
    sigdelset(&blocked, number);
  }
  pthread_sigmask(SIG_SETMASK, &blocked, &before_);
}

WakeSignalOnly::~WakeSignalOnly() {
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace siteswap::sys
