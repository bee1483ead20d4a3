// The processes below this one, by /proc: counted, measured, ended. Used by the supervisor and by its first process,
// both of which are reapers of their descendants (PR_SET_CHILD_SUBREAPER), so that none gets away by leaving its
// parent.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "process/proc_files.h"

namespace siteswap::sandbox {

// Each descendant that is no zombie, parents first as a rule. `found` is called while the others are still looked for,
// so what it ends can't go on forking until the end of the list. Throws std::runtime_error when there is no /proc.
void eachDescendant(const std::function<void(const process::Stat&)>& found);

// Of one process, in bytes: `resident` counts pages that it shares with others in full, `proportional` its part of
// them.
uint64_t residentBytes(pid_t pid);
uint64_t proportionalBytes(pid_t pid);

// SIGKILL to all descendants, until none is left and all are reaped. Bounded by nothing: a process can be stuck in the
// kernel.
void endDescendants();

// Threads of all processes of a user, which is what RLIMIT_NPROC counts.
size_t threadsOfUser(uid_t uid);

}  // namespace siteswap::sandbox
