// A descriptor goes to another process over a unix socket (SCM_RIGHTS), with one byte that carries it.
#pragma once

namespace siteswap::sys {

// Both: -1 and errno when it failed; EBADMSG when something else than one descriptor came, or nothing any more.
int sendDescriptor(int socket, int fd);
int receiveDescriptor(int socket);

}  // namespace siteswap::sys
