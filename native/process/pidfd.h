// The pidfd system calls and ioctl that the C library's headers are too old for.
#pragma once

#include <sys/types.h>

#include <optional>

#include "process/process.h"

namespace siteswap::process {

// Close-on-exec. -1 and errno: ESRCH when there is no such process, EINVAL or ENOENT when `pid` is a mere thread.
int openPidfd(pid_t pid);
// The same of one thread (PIDFD_THREAD, Linux 6.9): it has ended when that thread has. -1 when that can't be had.
int openThreadPidfd(pid_t tid);
// A child that ends at once, reaped: what kernels tell of it is how they are probed. Its pid, or -1.
pid_t startAndReapChild(int* pidfd);
// Has the process ended? A zombie counts, and a whole thread group is meant.
bool hasEnded(int pidfd);
// Is its number still its own, so that /proc/<pid> speaks of it? A zombie's is.
bool holdsNumber(int pidfd);
// PIDFD_GET_INFO: the exit status of a reaped process. Nothing when not reaped yet, or the kernel (< 6.15) can't tell.
std::optional<ExitStatus> reapedStatus(int pidfd);
// A status in wait(2) format.
ExitStatus decodeStatus(int status);

}  // namespace siteswap::process
