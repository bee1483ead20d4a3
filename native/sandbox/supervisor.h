// Runs one command contained, watches over it, ends all that it started, and says how it went.
//
// Three processes: the supervisor (this), the sandbox's first process (first_process.h), CMD (command.h). The first two
// keep the supervisor's rights and are out of CMD's reach; each ends everything when the other one is gone, and the
// supervisor also when the one that started it is gone. Nothing that CMD starts outlives the sandbox, however it
// detaches itself: orphans become children of the first process, and are counted among CMD's.
//
//   descriptor 0   a byte says go; its end, at any time, says that everything is to end
//   descriptor 1   what CMD printed, at the end
//   descriptor 3   JSON, one object a line: {"ready":true}, then the outcome
#pragma once

#include "sandbox/options.h"

namespace siteswap::sandbox {

// Returns the exit code: 0 when there was an outcome, whatever it was.
int supervise(const Options& options);

// Prints what this host lets a sandbox do, as JSON.
int printCapabilities();

}  // namespace siteswap::sandbox
