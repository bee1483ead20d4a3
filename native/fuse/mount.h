// Mounting and unmounting: as root by mount(2), otherwise by fusermount3. Called by the addon only; blocks briefly.
#pragma once

#include <string>

namespace siteswap::fuse {

// Opens /dev/fuse and mounts it over `target`; /proc/self/mountinfo shows type fuse.siteswap and `source`. Returns the
// device's descriptor (close-on-exec), or a negated errno with `error` telling in a few words what failed.
// -ENODEV: the host lacks /dev/fuse, the kernel module or fusermount3; -EPERM, -EACCES: no rights; -ENOENT, -ENOTDIR:
// `target`. The kernel's INIT waits in the descriptor: until it is answered, whoever enters the mount waits.
int mountFuse(const std::string& target, const std::string& source, bool allowOther, std::string& error);

// 0 or a negated errno, with `error`. -EBUSY: in use, and not `lazy` (which detaches it at once, for new callers).
int unmountFuse(const std::string& target, bool lazy, std::string& error);

}  // namespace siteswap::fuse
