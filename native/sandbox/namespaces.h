// Namespaces of the sandbox's own, as far as the supervisor may make some (it is root, and in no container that forbids
// it).
//
// A process namespace: nothing in it outlives its first process. A mount namespace: everything is read-only but the
// scratch directory, /proc is that of the process namespace, /dev/shm is empty and is gone with it. This holds back
// what Landlock does not speak of (modes, owners, times). A namespace for System V IPC, so that no segment is left
// behind. Unmounting outside still reaches the sandbox.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace siteswap::sandbox {

enum class Namespaces { kOwn, kShared };

// fork(2), into namespaces of its own or into the caller's.
pid_t forkInto(Namespaces namespaces);

// To be called by the first process of its own mount namespace. The scratch directory is the only one that can be
// written; none when it is empty. Of siteswap's mounts it keeps that over `tree`. False and errno when it can't be
// done: then the process must go no further.
bool isolateMounts(const std::string& scratch, const std::string& tree, uint64_t sharedMemoryBytes);

// For whoever looks on: a mount namespace of its own, in which this FUSE device is mounted over `directory` instead of
// what is mounted there, read-only. Throws std::runtime_error, which says why it can't be done. The caller's threads
// must be one.
void mountOwnView(const std::string& directory, int deviceFd);

// From here on this process sees the transaction's own root (overlay/own_root.h) over `directory`. False where that
// can't be had: without the right to mount, from a kernel without epochs, or where other trees are mounted that could
// not be unmounted meanwhile. It then sees what it saw.
bool bindOwnRoot(const std::string& directory, const std::string& token);

// Can it be done here? Tries it.
bool namespacesWork();

}  // namespace siteswap::sandbox
