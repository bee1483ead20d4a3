// From the fork to the exec of CMD: what it gives up, in the order in which it can.
#pragma once

#include "sandbox/options.h"
#include "sandbox/scratch.h"

namespace siteswap::sandbox {

// In the child. `output`: its standard output and error. `report`: where it tells that it is confined, or why it was
// not started; then it exits. `threadsLimit`: see Supervisor.
[[noreturn]] void becomeCommand(const Options& options, const Scratch& scratch, int output, int report,
                                size_t threadsLimit);

}  // namespace siteswap::sandbox
