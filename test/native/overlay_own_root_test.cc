// A transaction's own root: who gets it, what the kernel may keep of it, and what it shows when the transaction has
// ended.
#include "check.h"
#include "overlay/own_root.h"
#include "overlay_mounted.h"

using namespace siteswap::test;
using siteswap::overlay::inoOf;
using siteswap::overlay::nodeidOf;
using siteswap::overlay::ownRootName;
using siteswap::overlay::rootOf;

namespace {

const std::string kToken = "0123";

uint64_t ownRoot(Mounted& m, pid_t member, const std::string& token = kToken) {
  return m.lookup(kRootIno, ownRootName(token), member).nodeid;
}

void forget(Mounted& m, uint64_t nodeid) {
  fuse_forget_in in{};
  in.nlookup = 1;
  m.send(FUSE_FORGET, nodeid, bytesOf(in), 0);
}

bool isTold(Mounted& m, uint64_t nodeid) {
  while (const auto next = m.kernel.waitNotification(0)) {
    if (next->error == kNotifyInvalInode && next->as<fuse_notify_inval_inode_out>().ino == nodeid) return true;
  }
  return false;
}

bool isKept(const Reply& answer) {
  return answer.error == 0 && answer.as<fuse_entry_out>().entry_valid == kForever;
}

}  // namespace

TEST(only_a_member_gets_it) {
  Mounted m;
  Process member, reader;
  CHECK_EQ(m.begin(1, member.pid, kToken), 0);
  const Reply given = m.lookupReply(kRootIno, ownRootName(kToken), member.pid);
  CHECK_EQ(given.error, 0);
  const auto own = given.as<fuse_entry_out>();
  // Another inode for the kernel, and the same directory to whoever looks at it.
  CHECK(own.nodeid != kRootIno);
  CHECK_EQ(own.attr.ino, kRootIno);
  CHECK(S_ISDIR(own.attr.mode));
  CHECK_EQ(own.entry_valid, 0u);
  CHECK_EQ(ownRoot(m, member.pid), own.nodeid);
  CHECK_EQ(ownRoot(m, reader.pid), 0u);
  CHECK_EQ(ownRoot(m, member.pid, "4567"), 0u);
  for (const Named& named : m.list(kRootIno, false, 4096, member.pid))
    CHECK(named.name.find("siteswap") == std::string::npos);
}

TEST(nobody_gets_that_of_a_transaction_without_a_token) {
  Mounted m;
  Process member;
  CHECK_EQ(m.begin(1, member.pid), 0);
  CHECK_EQ(ownRoot(m, member.pid, ""), 0u);
}

TEST(without_epochs_there_is_none) {
  SessionOptions options;
  options.disableEpoch = true;
  Mounted m(options);
  Process member;
  CHECK_EQ(m.begin(1, member.pid, kToken), 0);
  CHECK_EQ(ownRoot(m, member.pid), 0u);
}

TEST(the_kernel_keeps_what_is_below_it) {
  Mounted m;
  Process member, reader;
  CHECK_EQ(m.begin(1, member.pid, kToken), 0);
  const uint64_t own = ownRoot(m, member.pid);
  CHECK_EQ(m.getattr(own, member.pid).attr_valid, kForever);
  CHECK_EQ(m.getattr(own, member.pid).attr.ino, kRootIno);
  const fuse_entry_out package = m.lookup(own, "pkg", member.pid);
  CHECK_EQ(package.entry_valid, kForever);
  CHECK_EQ(package.attr_valid, kForever);
  // A directory has one place in the kernel, a file may have many.
  CHECK_EQ(rootOf(package.nodeid), rootOf(own));
  CHECK_EQ(inoOf(package.nodeid), package.attr.ino);
  const fuse_entry_out file = m.lookup(package.nodeid, "__init__.py", member.pid);
  CHECK_EQ(file.entry_valid, kForever);
  CHECK_EQ(file.nodeid, file.attr.ino);
  for (const uint64_t parent : {own, package.nodeid}) {
    CHECK(isKept(m.lookupReply(parent, "missing", member.pid)));
    CHECK(isKept(m.create(parent, "made.py", member.pid)));
    const Reply made = m.mkdir(parent, "made", member.pid);
    CHECK(isKept(made));
    CHECK_EQ(rootOf(made.as<fuse_entry_out>().nodeid), rootOf(own));
    for (const Named& named : m.list(parent, true, 4096, member.pid)) {
      if (named.name == "made" || named.name == "sub") CHECK_EQ(named.nodeid, nodeidOf(rootOf(own), named.ino));
      if (named.name == "made.py") CHECK_EQ(named.nodeid, named.ino);
    }
  }
  // The same node by way of the mount's root is another directory to the kernel, and nothing of it is kept there.
  const fuse_entry_out other = m.lookup(kRootIno, "pkg", member.pid);
  CHECK_EQ(other.nodeid, package.attr.ino);
  CHECK_EQ(other.entry_valid, 0u);
  CHECK_EQ(m.lookup(other.nodeid, "made.py", member.pid).entry_valid, 0u);
  CHECK_EQ(m.readPath("pkg/made.py", reader.pid), "<nothing>");
  CHECK(isKept(m.lookupReply(own, "version", member.pid)));
}

TEST(a_change_from_elsewhere_is_seen) {
  for (const bool below : {false, true}) {
    Mounted m;
    Process member;
    CHECK_EQ(m.begin(1, member.pid, kToken), 0);
    const uint64_t own = ownRoot(m, member.pid);
    const uint64_t package = m.lookup(own, "pkg", member.pid).nodeid;
    CHECK(isKept(m.lookupReply(own, "new", member.pid)));
    CHECK(isKept(m.lookupReply(package, "new", member.pid)));
    m.dropNotifications();
    // A member that was not started in the namespace.
    CHECK_EQ(m.create(below ? m.walk("pkg", member.pid) : kRootIno, "new", member.pid).error, 0);
    CHECK(isTold(m, own));
    const fuse_entry_out now = m.lookup(below ? package : own, "new", member.pid);
    CHECK(now.nodeid != 0);
    CHECK_EQ(now.entry_valid, 0u);
    CHECK_EQ(m.lookup(own, "pkg", member.pid).entry_valid, 0u);
    CHECK_EQ(m.lookup(package, "sub", member.pid).entry_valid, 0u);
    CHECK_EQ(m.getattr(own, member.pid).attr_valid, 0u);
  }
}

TEST(after_a_change_from_elsewhere_nothing_is_kept) {
  Mounted m;
  Process member;
  CHECK_EQ(m.begin(1, member.pid, kToken), 0);
  CHECK_EQ(m.create(kRootIno, "new", member.pid).error, 0);
  const uint64_t own = ownRoot(m, member.pid);
  CHECK_EQ(m.lookup(own, "new", member.pid).entry_valid, 0u);
  CHECK_EQ(m.lookup(own, "pkg", member.pid).entry_valid, 0u);
  CHECK_EQ(m.getattr(own, member.pid).attr_valid, 0u);
}

TEST(attributes_of_a_directory_that_changed_elsewhere_are_void) {
  Mounted m;
  Process member;
  CHECK_EQ(m.begin(1, member.pid, kToken), 0);
  const uint64_t own = ownRoot(m, member.pid), package = m.lookup(own, "pkg", member.pid).nodeid;
  const uint64_t outside = m.walk("pkg", member.pid);
  fuse_setattr_in in{};
  in.valid = FATTR_MODE;
  in.mode = S_IFDIR | 0700;
  for (const auto& [here, there] :
       std::map<uint64_t, uint64_t>{{outside, package}, {package, outside}, {kRootIno, own}}) {
    CHECK_EQ(m.getattr(there, member.pid).attr.ino, inoOf(there));
    m.dropNotifications();
    CHECK_EQ(m.ask(FUSE_SETATTR, here, bytesOf(in), member.pid).error, 0);
    CHECK(isTold(m, there));
    // Again, when names are not kept any more either: there may be a descriptor.
    const std::string name = "made-" + std::to_string(here);
    for (const std::string& made : {name, name + "-2"}) {
      m.dropNotifications();
      CHECK_EQ(m.create(here, made, member.pid).error, 0);
      CHECK(isTold(m, there));
    }
  }
}

TEST(names_are_kept_for_nobody_when_another_transaction_begins_below) {
  Mounted m;
  Process nested;
  const pid_t outer = ::getpid();
  CHECK_EQ(m.begin(1, outer, kToken), 0);
  const uint64_t own = ownRoot(m, outer);
  CHECK_EQ(m.lookup(own, "pkg", nested.pid).entry_valid, kForever);
  // A descendant of the first one's root: it is in the same namespace.
  CHECK_EQ(m.begin(2, nested.pid, "4567"), 0);
  const fuse_entry_out its = m.lookup(own, "pkg", nested.pid), others = m.lookup(own, "pkg", outer);
  CHECK(its.nodeid != others.nodeid);
  CHECK_EQ(others.entry_valid, 0u);
  CHECK_EQ(its.entry_valid, 0u);
  CHECK_EQ(m.lookup(own, "missing", outer).nodeid, 0u);
  CHECK(!isKept(m.lookupReply(own, "missing", outer)));
  CHECK_EQ(m.getattr(own, outer).attr_valid, 0u);
}

TEST(its_name_does_not_tell_the_token) {
  // Everybody may read the mount table of everybody's processes.
  const std::string token = "0123456789abcdef0123456789abcdef";
  CHECK(ownRootName(token).find(token) == std::string::npos);
  CHECK(ownRootName(token) != ownRootName("1" + token));
}

TEST(what_is_left_behind_sees_what_others_see) {
  Mounted m;
  Process member, left, reader;
  CHECK_EQ(m.begin(1, member.pid, kToken), 0);
  const uint64_t own = ownRoot(m, member.pid);
  CHECK_EQ(m.create(own, "new", member.pid).error, 0);
  const uint64_t made = m.mkdir(own, "directory", member.pid).as<fuse_entry_out>().nodeid;
  m.dropNotifications();
  m.commit(1, 1);
  std::set<uint64_t> told;
  while (const auto next = m.kernel.waitNotification(0)) {
    if (next->error == kNotifyInvalInode) told.insert(next->as<fuse_notify_inval_inode_out>().ino);
  }
  CHECK(told.contains(own) && told.contains(made) && told.contains(inoOf(made)));

  CHECK(m.lookup(own, "new", left.pid).nodeid != 0);
  CHECK_EQ(m.getattr(own, left.pid).attr_valid, 0u);
  CHECK_EQ(m.getattr(own, left.pid).attr.ino, kRootIno);
  // It never takes a directory's place from those who come through the mount's root.
  for (const char* name : {"pkg", "directory", "other"}) {
    const fuse_entry_out here = m.lookup(own, name, left.pid), there = m.lookup(kRootIno, name, reader.pid);
    CHECK_EQ(here.attr.ino, there.attr.ino);
    CHECK_EQ(there.nodeid, there.attr.ino);
    CHECK_EQ(here.nodeid, nodeidOf(rootOf(own), here.attr.ino));
  }
  const uint64_t package = m.lookup(own, "pkg", left.pid).nodeid;
  CHECK_EQ(rootOf(m.lookup(package, "sub", left.pid).nodeid), rootOf(own));
  CHECK_EQ(m.read(m.lookup(package, "__init__.py", left.pid).nodeid, left.pid), "init");
  std::set<std::string> names;
  bool isComplete = true;
  for (const Named& named : m.list(own, true, 4096, left.pid, 0, &isComplete)) names.insert(named.name);
  CHECK(!isComplete);
  CHECK(names.contains("new") && names.contains("pkg"));

  // The next commit reaches those who are not pinned.
  Process second, later;
  m.install(2, 2, second.pid);
  CHECK_EQ(m.read(m.lookup(own, "version", later.pid).nodeid, later.pid), "2");
  CHECK_EQ(m.read(m.lookup(own, "version", left.pid).nodeid, left.pid), "0");
  // What it changes is a change like any other.
  const uint64_t unique = m.send(FUSE_UNLINK, own, bytesOf(std::string("new"), '\0'), later.pid);
  const auto writer = m.nextWriter();
  REQUIRE(writer.has_value());
  CHECK_EQ(writer->path, "new");
  m.overlay->decide(writer->request, Verdict::kError, EACCES);
  CHECK_EQ(m.kernel.wait(unique)->error, -EACCES);
}

TEST(a_dropped_one_shows_what_others_see) {
  Mounted m;
  Process member;
  CHECK_EQ(m.begin(1, member.pid, kToken), 0);
  const uint64_t own = ownRoot(m, member.pid);
  CHECK(isKept(m.create(own, "new", member.pid)));
  m.dropNotifications();
  CHECK_EQ(m.overlay->abortTransaction(1, siteswap::overlay::Refusal{}), 0);
  CHECK(isTold(m, own));
  CHECK_EQ(m.lookup(own, "new", member.pid).nodeid, 0u);
  CHECK_EQ(m.read(m.lookup(own, "version", member.pid).nodeid, member.pid), "0");
  CHECK_EQ(m.create(own, "more", member.pid).error, -EROFS);
  // Who walked by names that the kernel keeps was never seen.
  Process unseen, elsewhere;
  CHECK_EQ(m.mkdir(m.lookup(own, "pkg", unseen.pid).nodeid, "more", unseen.pid).error, -EROFS);
  const uint64_t asks = m.send(FUSE_UNLINK, kRootIno, bytesOf(std::string("version"), '\0'), elsewhere.pid);
  const auto writer = m.nextWriter();
  REQUIRE(writer.has_value());
  m.overlay->decide(writer->request, Verdict::kError, EACCES);
  CHECK_EQ(m.kernel.wait(asks)->error, -EACCES);
}

TEST(a_number_is_not_given_while_the_kernel_has_another_by_it) {
  constexpr uint32_t kNumbers = 16383;
  Mounted m;
  Process first, second;
  CHECK_EQ(m.begin(1, first.pid, kToken), 0);
  const uint64_t own = ownRoot(m, first.pid);
  CHECK_EQ(ownRoot(m, first.pid), own);
  CHECK_EQ(m.overlay->abortTransaction(1), 0);
  CHECK_EQ(m.begin(1 + kNumbers, second.pid, kToken), 0);
  CHECK_EQ(ownRoot(m, second.pid), 0u);
  forget(m, own);
  CHECK_EQ(ownRoot(m, second.pid), 0u);
  forget(m, own);
  CHECK_EQ(ownRoot(m, second.pid), own);
}
