// What the kernel may keep of the root: its attributes, and its listing over a swap.
#include "check.h"
#include "overlay_mounted.h"

using namespace siteswap::test;

namespace {

fuse_open_out openRoot(Mounted& m, pid_t tid) {
  return m.ask(FUSE_OPENDIR, kRootIno, bytesOf(fuse_open_in{}), tid).as<fuse_open_out>();
}

void releaseRoot(Mounted& m, const fuse_open_out& opened) {
  fuse_release_in in{};
  in.fh = opened.fh;
  // The kernel sends it in nobody's name.
  CHECK_EQ(m.ask(FUSE_RELEASEDIR, kRootIno, bytesOf(in)).error, 0);
}

std::set<std::string> names(Mounted& m, const fuse_open_out& opened) {
  std::set<std::string> found;
  for (const Named& named : m.listHandle(kRootIno, opened.fh, false, 4096)) found.insert(named.name);
  return found;
}

constexpr uint32_t kDropping = FOPEN_CACHE_DIR, kKept = FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE, kApart = FOPEN_KEEP_CACHE;

// Commits a new name.
void add(Mounted& m, uint32_t id, const std::string& name) {
  Process installer;
  REQUIRE(m.begin(id, installer.pid) == 0);
  CHECK_EQ(m.mkdir(kRootIno, name, installer.pid).error, 0);
  m.commit(id, id);
}

}  // namespace

TEST(the_listing_is_kept_by_handles_of_one_generation_at_a_time) {
  Mounted m;
  Process old, other, next, last;
  const fuse_open_out first = openRoot(m, old.pid);
  CHECK_EQ(first.open_flags, kDropping);
  // Whatever is there may not have been dropped yet.
  CHECK_EQ(openRoot(m, other.pid).open_flags, kApart);
  CHECK(!names(m, first).empty());
  const fuse_open_out second = openRoot(m, other.pid);
  CHECK_EQ(second.open_flags, kKept);

  add(m, 1, "new");
  // Either may still fill what the kernel keeps.
  const fuse_open_out early = openRoot(m, next.pid);
  CHECK_EQ(early.open_flags, kApart);
  CHECK(names(m, early).contains("new"));
  CHECK(!names(m, first).contains("new"));
  releaseRoot(m, first);
  CHECK_EQ(openRoot(m, next.pid).open_flags, kApart);
  releaseRoot(m, early);  // not one of them
  CHECK_EQ(openRoot(m, next.pid).open_flags, kApart);
  releaseRoot(m, second);
  const fuse_open_out fresh = openRoot(m, next.pid);
  CHECK_EQ(fresh.open_flags, kDropping);
  CHECK_EQ(openRoot(m, last.pid).open_flags, kApart);
  releaseRoot(m, fresh);  // never used, and it has dropped what was there
  const fuse_open_out kept = openRoot(m, last.pid);
  CHECK_EQ(kept.open_flags, kKept);
  CHECK(names(m, kept).contains("new"));
  // Who stays at the old generation lists it, and leaves nothing behind.
  const fuse_open_out pinned = openRoot(m, old.pid);
  CHECK_EQ(pinned.open_flags, kApart);
  CHECK(!names(m, pinned).contains("new"));
}

TEST(the_listing_is_not_kept_while_a_transaction_is_open) {
  Mounted m;
  Process member, reader;
  REQUIRE(m.begin(1, member.pid) == 0);
  CHECK_EQ(openRoot(m, reader.pid).open_flags, kApart);
  CHECK_EQ(openRoot(m, member.pid).open_flags, kApart);
  CHECK_EQ(m.overlay->abortTransaction(1), 0);
  CHECK_EQ(openRoot(m, reader.pid).open_flags, kDropping);
}

// The kernel takes what a listing brings as of when it takes it in, which may be after a swap.
TEST(a_listing_of_the_root_brings_names_only) {
  Mounted m;
  for (const Named& named : m.list(kRootIno, true, 4096)) CHECK_EQ(named.nodeid, 0u);
}

TEST(what_the_root_looks_like_to_a_member_has_a_time_of_its_own) {
  Mounted m;
  Process pinned;
  m.opendir(kRootIno, pinned.pid);
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
  m.opendir(kRootIno, pinned.pid);
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
  m.opendir(kRootIno, pinned.pid);
  add(m, 1, "new");
  const fuse_attr_out old = m.getattr(kRootIno, pinned.pid), now = m.getattr(kRootIno, reader.pid);
  CHECK_EQ(old.attr_valid, 0u);
  CHECK_EQ(now.attr_valid, 0u);
  CHECK_EQ(now.attr.nlink, old.attr.nlink + 1);
}
