#include "overlay/acl.h"

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "check.h"
#include "overlay/xattr.h"

using namespace siteswap::overlay;

namespace {

struct Rule {
  uint16_t tag, rights;
  uint32_t id = ACL_UNDEFINED_ID;
};

std::string aclOf(const std::vector<Rule>& rules) {
  const posix_acl_xattr_header header{POSIX_ACL_XATTR_VERSION};
  std::string text(reinterpret_cast<const char*>(&header), sizeof header);
  for (const Rule& rule : rules) {
    const posix_acl_xattr_entry entry{rule.tag, rule.rights, rule.id};
    text.append(reinterpret_cast<const char*>(&entry), sizeof entry);
  }
  return text;
}

uint32_t under(uint32_t mode, const std::vector<Rule>& rules) {
  return modeUnderAcl(S_IFREG | mode, aclOf(rules)) & 07777;
}

}  // namespace

TEST(a_mode_gives_nobody_more_than_the_list) {
  // Nothing but what the mode says anyway.
  CHECK_EQ(under(0754, {{ACL_USER_OBJ, 7}, {ACL_GROUP_OBJ, 5}, {ACL_OTHER, 4}}), 0754u);
  // A user who may nothing may be anybody, also in the file's group.
  CHECK_EQ(under(0644, {{ACL_USER_OBJ, 6}, {ACL_USER, 0, 65534}, {ACL_GROUP_OBJ, 4}, {ACL_MASK, 4}, {ACL_OTHER, 4}}),
           0600u);
  // The mode's group bits are the mask: the file's own group has less.
  CHECK_EQ(under(0660, {{ACL_USER_OBJ, 6}, {ACL_GROUP_OBJ, 0}, {ACL_GROUP, 6, 60}, {ACL_MASK, 6}, {ACL_OTHER, 0}}),
           0600u);
  // Of a named group anybody else may be a member.
  CHECK_EQ(under(0665, {{ACL_USER_OBJ, 6}, {ACL_GROUP_OBJ, 6}, {ACL_GROUP, 4, 60}, {ACL_MASK, 6}, {ACL_OTHER, 5}}),
           0664u);
  // The mask counts for the named ones too.
  CHECK_EQ(under(0645, {{ACL_USER_OBJ, 6}, {ACL_USER, 7, 1}, {ACL_GROUP_OBJ, 6}, {ACL_MASK, 4}, {ACL_OTHER, 5}}),
           0644u);
  // More for some is not more for anybody else.
  CHECK_EQ(under(06770, {{ACL_USER_OBJ, 7}, {ACL_USER, 7, 1}, {ACL_GROUP_OBJ, 7}, {ACL_MASK, 7}, {ACL_OTHER, 0}}),
           06770u);
}

TEST(what_is_no_list_leaves_the_owner) {
  const std::string sound = aclOf({{ACL_USER_OBJ, 7}, {ACL_GROUP_OBJ, 7}, {ACL_OTHER, 7}});
  CHECK_EQ(modeUnderAcl(S_IFDIR | 0777, sound), S_IFDIR | 0777u);
  for (size_t length = 0; length < sound.size(); ++length) {
    // Cut at the end of an entry it is a list, of fewer.
    CHECK_EQ(modeUnderAcl(S_IFDIR | 0777, std::string_view(sound).substr(0, length)) & ~070u, S_IFDIR | 0700u);
  }
  std::string another = sound;
  another[0] = 3;
  CHECK_EQ(modeUnderAcl(S_IFREG | 0777, another), S_IFREG | 0700u);
  CHECK_EQ(under(0777, {{ACL_USER_OBJ, 7}, {0x40, 7}, {ACL_GROUP_OBJ, 7}, {ACL_OTHER, 7}}), 0700u);
}

TEST(only_the_access_list_counts) {
  const std::string acl = aclOf({{ACL_USER_OBJ, 6}, {ACL_GROUP_OBJ, 0}, {ACL_MASK, 6}, {ACL_OTHER, 0}});
  const std::string with = encodeXattrs({{"security.selinux", "x"}, {"system.posix_acl_access", acl}, {"user.a", "b"}});
  CHECK_EQ(modeWithAcl(S_IFREG | 0660, with), S_IFREG | 0600u);
  const std::string without = encodeXattrs({{"system.posix_acl_default", acl}, {"user.a", "b"}});
  CHECK_EQ(modeWithAcl(S_IFDIR | 0775, without), S_IFDIR | 0775u);
  CHECK_EQ(modeWithAcl(S_IFREG | 0664, ""), S_IFREG | 0664u);
}
