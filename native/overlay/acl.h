// POSIX access control lists, which the kernel does not apply on our mounts: FUSE_POSIX_ACL would cost a GETXATTR for
// each inode. A file with one has a mode instead that gives nobody more than its list does, and some less.
#pragma once

#include <cstdint>
#include <string_view>

#include "overlay/xattr.h"

namespace siteswap::overlay {

// `mode` (its group bits are the list's mask, acl(5)), for a file with these extended attributes: decoded, or as a
// blob.
uint32_t modeWithAcl(uint32_t mode, const Xattrs& xattrs);
uint32_t modeWithAcl(uint32_t mode, std::string_view xattrs);

// What a list (the value of system.posix_acl_access) leaves of the mode. One that is not well formed leaves its owner's
// rights.
uint32_t modeUnderAcl(uint32_t mode, std::string_view acl);

}  // namespace siteswap::overlay
