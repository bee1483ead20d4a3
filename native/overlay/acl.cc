#include "overlay/acl.h"

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

namespace siteswap::overlay {

namespace {

constexpr char kAccess[] = "system.posix_acl_access";

}  // namespace

uint32_t modeUnderAcl(uint32_t mode, std::string_view acl) {
  if (S_ISLNK(mode)) return mode;
  posix_acl_xattr_header header{};
  const size_t headerBytes = std::min(acl.size(), sizeof header);
  std::memcpy(&header, acl.data(), headerBytes);
  acl.remove_prefix(headerBytes);
  const uint32_t mask = (mode & S_IRWXG) >> 3;
  uint32_t group = 0, other = 0, namedUsers = 07, named = 07;
  bool isSound = header.a_version == POSIX_ACL_XATTR_VERSION && acl.size() % sizeof(posix_acl_xattr_entry) == 0;
  for (; isSound && !acl.empty(); acl.remove_prefix(sizeof(posix_acl_xattr_entry))) {
    posix_acl_xattr_entry entry;
    std::memcpy(&entry, acl.data(), sizeof entry);
    switch (entry.e_tag) {
      case ACL_USER_OBJ:
      case ACL_MASK:
        break;
      case ACL_USER:
        namedUsers &= entry.e_perm & mask;
        named &= entry.e_perm & mask;
        break;
      case ACL_GROUP:
        named &= entry.e_perm & mask;
        break;
      case ACL_GROUP_OBJ:
        group = entry.e_perm & mask;
        break;
      case ACL_OTHER:
        other = mode & S_IRWXO;
        break;
      default:
        isSound = false;
    }
  }
  if (!isSound) group = other = 0;
  // A named user may be in the group or be anybody else; who is in a named group and not in the file's is anybody else.
  group &= namedUsers;
  other &= named;
  return (mode & ~static_cast<uint32_t>(S_IRWXG | S_IRWXO)) | group << 3 | other;
}

uint32_t modeWithAcl(uint32_t mode, const Xattrs& xattrs) {
  const auto acl = xattrs.find(kAccess);
  return acl != xattrs.end() ? modeUnderAcl(mode, acl->second) : mode;
}

uint32_t modeWithAcl(uint32_t mode, std::string_view xattrs) {
  const auto acl = findXattr(xattrs, kAccess);
  return acl ? modeUnderAcl(mode, *acl) : mode;
}

}  // namespace siteswap::overlay
