// The sandbox's first process: the parent of CMD, the reaper of all that CMD leaves behind, and the one that ends it
// all if the supervisor is killed. The first of its process namespace where it has one.
#pragma once

#include "sandbox/namespaces.h"
#include "sandbox/options.h"
#include "sandbox/scratch.h"

namespace siteswap::sandbox {

[[noreturn]] void runFirstProcess(const Options& options, Namespaces namespaces, Scratch& scratch, int output,
                                  int supervisor, size_t threadsLimit);

}  // namespace siteswap::sandbox
