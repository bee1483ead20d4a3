// Landlock: the kernel's access control that a process puts on itself, and that nothing it starts can take off.
// Used by command.cc; needs no privilege, only PR_SET_NO_NEW_PRIVS.
#pragma once

namespace siteswap::sandbox {

// The ABI's version; 0 when the kernel has none, or has it switched off.
int landlockVersion();

// From here on this process and all it starts may change files below the current directory only, and may signal only
// each other (ABI 6; before that, a process of the same user can be signalled). Reading and executing stay as they
// were. Returns the ABI's version, 0 when there is none; -1 and errno when it failed.
//
// What Landlock does not speak of: modes, owners, times and extended attributes of files, and connecting to sockets
// that have a path.
int restrictWriting();

}  // namespace siteswap::sandbox
