// What the kernel may keep of the root.
#include "check.h"
#include "overlay_mounted.h"

using namespace siteswap::test;

namespace {

// Commits a new name.
void add(Mounted& m, uint32_t id, const std::string& name) {
  Process installer;
  REQUIRE(m.begin(id, installer.pid) == 0);
  CHECK_EQ(m.mkdir(kRootIno, name, installer.pid).error, 0);
  m.commit(id, id);
}

}  // namespace

// The kernel takes what a listing brings as of when it takes it in, which may be after a swap.
TEST(a_listing_of_the_root_brings_names_only) {
  Mounted m;
  for (const Named& named : m.list(kRootIno, true, 4096)) CHECK_EQ(named.nodeid, 0u);
}

TEST(what_the_root_looks_like_to_a_member_has_a_time_of_its_own) {
  Mounted m;
  Process pinned;
  m.listRoot(pinned.pid);
  add(m, 1, "new");
  const auto time = [&](pid_t pid) {
    const fuse_attr a = m.getattr(kRootIno, pid).attr;
    return std::pair(a.mtime, a.mtimensec);
  };
  // It has seen this time with the names of generation 0.
  const auto seen = time(pinned.pid);
  CHECK_EQ(m.walk("new", pinned.pid), 0u);
  Process shell;
  REQUIRE(m.begin(2, shell.pid) == 0);
  const auto inside = time(shell.pid);
  CHECK(inside != seen);
  CHECK(time(pinned.pid) == seen);
  CHECK_EQ(m.mkdir(kRootIno, "more", shell.pid).error, 0);
  CHECK(time(shell.pid) != inside && time(shell.pid) != seen);
  Process observer;
  CHECK_EQ(m.overlay->observe({false, 1}, observer.pid), 0);
  CHECK(time(observer.pid) != seen);
}

TEST(the_roots_attributes_are_those_of_head_and_kept_whoever_is_pinned) {
  Mounted m;
  Process pinned;
  m.listRoot(pinned.pid);
  const fuse_attr before = m.getattr(kRootIno, pinned.pid).attr;
  add(m, 1, "new");
  Process reader;
  for (const pid_t pid : {pinned.pid, reader.pid, 0}) {
    const fuse_attr_out now = m.getattr(kRootIno, pid);
    CHECK_EQ(now.attr_valid, kForever);
    CHECK(now.attr.mtime > before.mtime || (now.attr.mtime == before.mtime && now.attr.mtimensec > before.mtimensec));
    CHECK_EQ(now.attr.nlink, before.nlink + 1);
  }
  CHECK_EQ(m.walk("new", pinned.pid), 0u);
  CHECK(m.walk("new", reader.pid) != 0);
  // Names in which the two differ are asked for each time, others are not.
  CHECK_EQ(m.lookup(kRootIno, "new", reader.pid).entry_valid, 0u);
  CHECK_EQ(m.lookup(kRootIno, "pkg", reader.pid).entry_valid, kForever);
  // In a transaction the root is its own.
  REQUIRE(m.begin(2, reader.pid) == 0);
  CHECK_EQ(m.mkdir(kRootIno, "more", reader.pid).error, 0);
  CHECK_EQ(m.getattr(kRootIno, reader.pid).attr_valid, 0u);
  CHECK_EQ(m.getattr(kRootIno, reader.pid).attr.nlink, before.nlink + 2);
  CHECK_EQ(m.getattr(kRootIno, pinned.pid).attr_valid, 0u);
  CHECK_EQ(m.getattr(kRootIno, pinned.pid).attr.nlink, before.nlink + 1);
}

// A lease ends without a commit, so who has read the root's time must see another one then.
TEST(with_leases_each_view_has_its_own_root) {
  Mounted m({}, PinPolicy::kLease);
  Process pinned, reader;
  CHECK_EQ(m.getattr(kRootIno, reader.pid).attr_valid, kForever);
  m.listRoot(pinned.pid);
  add(m, 1, "new");
  const fuse_attr_out old = m.getattr(kRootIno, pinned.pid), now = m.getattr(kRootIno, reader.pid);
  CHECK_EQ(old.attr_valid, 0u);
  CHECK_EQ(now.attr_valid, 0u);
  CHECK_EQ(now.attr.nlink, old.attr.nlink + 1);
}
