// A signal that does nothing but end a blocking system call of one thread (EINTR).
//
// It is a real-time signal that nobody in the process uses yet, found at run time; Node and V8 use none of them. A
// signal is the one way to end a read(2) of /dev/fuse without unmounting: the device can't be woken otherwise.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace siteswap::sys {

// Chooses the signal and gives it its empty handler. Idempotent, thread-safe.
void installWakeSignal();
void sendWakeSignal(pthread_t thread);

// While one lives, the calling thread, and those it makes, take no signals but the wake-up signal and those that report
// a fault of the thread itself.
class WakeSignalOnly {
 public:
  WakeSignalOnly();
  ~WakeSignalOnly();
  WakeSignalOnly(const WakeSignalOnly&) = delete;
  WakeSignalOnly& operator=(const WakeSignalOnly&) = delete;

 private:
  sigset_t before_;
};

}  // namespace siteswap::sys
