// Listings: which of them the kernel may keep, and where they go on.
#include "check.h"
#include "overlay_live_fixture.h"

using namespace siteswap::test;

namespace {

bool isComplete(Mounted& m, uint64_t nodeid, pid_t tid) {
  bool complete = false;
  m.list(nodeid, true, 4096, tid, 0, &complete);
  return complete;
}

std::set<std::string> names(const std::vector<Named>& listed) {
  std::set<std::string> found;
  for (const Named& named : listed) found.insert(named.name);
  CHECK_EQ(found.size(), listed.size());
  return found;
}

// Whether the kernel was told to drop the pages that it has of this directory's listing.
bool isDropped(Mounted& m, uint64_t ino) {
  bool found = false;
  while (const auto next = m.kernel.waitNotification(0)) {
    if (next->error != kNotifyInvalInode) continue;
    const auto out = next->as<fuse_notify_inval_inode_out>();
    found = found || (out.ino == ino && out.off == 0);
  }
  return found;
}

}  // namespace

TEST(directories_have_no_handles) {
  Mounted m;
  CHECK_EQ(m.ask(FUSE_OPENDIR, kRootIno, bytesOf(fuse_open_in{})).error, -ENOSYS);
}

TEST(the_kernel_keeps_the_listing_of_what_never_changes) {
  Mounted m;
  Process reader, writer;
  const uint64_t package = m.walk("pkg");
  CHECK(isComplete(m, package, reader.pid));
  // By this one readers are met.
  CHECK(!isComplete(m, kRootIno, reader.pid));
  // As often as it is asked for, and not into room that is not there.
  CHECK_EQ(m.listReply(kRootIno, false, 4096, reader.pid, m.list(kRootIno, false, 4096, reader.pid).back().offset)
               .body.size(),
           8u);
  CHECK_EQ(
      m.listReply(kRootIno, false, 4, reader.pid, m.list(kRootIno, false, 4096, reader.pid).back().offset).body.size(),
      4u);
  const uint64_t cache = makeCache(m, writer);
  CHECK(cache != 0 && !isComplete(m, cache, reader.pid));
  CHECK(isComplete(m, package, reader.pid));
}

TEST(a_member_that_stands_in_a_committed_directory_lists_its_own) {
  Mounted m;
  Process member, reader;
  const uint64_t committed = m.walk("pkg"), below = m.walk("pkg/sub");
  CHECK(isComplete(m, committed, member.pid));
  REQUIRE(m.begin(1, member.pid) == 0);
  CHECK(!isComplete(m, committed, reader.pid));
  m.dropNotifications();
  // It is not asked for what the kernel has kept, and that is right as long as nothing differs.
  const uint64_t own = m.walk("pkg", member.pid);
  CHECK_EQ(m.create(own, "new", member.pid).error, 0);
  CHECK(isDropped(m, committed));
  CHECK_EQ(m.create(own, "newer", member.pid).error, 0);
  CHECK(!isDropped(m, committed));
  CHECK(names(m.list(committed, true, 300, member.pid)).contains("new"));
  // They would take the place of what others have there.
  for (const Named& named : m.list(committed, true, 4096, member.pid)) CHECK_EQ(named.nodeid, 0u);
  CHECK(!names(m.list(committed, true, 300, reader.pid)).contains("new"));
  CHECK_EQ(m.unlink(m.walk("pkg/sub", member.pid), "deep.py", member.pid), 0);
  CHECK(isDropped(m, below));
  CHECK_EQ(m.list(below, true, 4096, member.pid).size(), 2u);
  CHECK_EQ(m.overlay->abortTransaction(1), 0);
  CHECK(isComplete(m, committed, member.pid));
}

// In a directory that is another one by now: its own names are those of the path.
TEST(a_member_that_stands_in_an_older_generations_directory_lists_its_own) {
  Mounted m;
  Process installer, member;
  const uint64_t old = m.walk("pkg");
  REQUIRE(m.begin(1, installer.pid) == 0);
  CHECK_EQ(m.create(m.walk("pkg", installer.pid), "first", installer.pid).error, 0);
  m.commit(1, 1);
  CHECK(m.walk("pkg") != old && isComplete(m, old, member.pid));
  REQUIRE(m.begin(2, member.pid) == 0);
  m.dropNotifications();
  CHECK_EQ(m.create(m.walk("pkg", member.pid), "new", member.pid).error, 0);
  CHECK(isDropped(m, old));
  const auto listed = names(m.list(old, true, 300, member.pid));
  CHECK(listed.contains("first") && listed.contains("new"));
}

// Who removes what he lists, and begins with that, finds all that readers' Pythons have left there.
TEST(who_becomes_a_member_while_he_lists_what_is_live_misses_nothing) {
  Mounted m;
  Process installer, remover, writer;
  REQUIRE(m.begin(1, installer.pid) == 0);
  CHECK_EQ(m.mkdir(m.walk("pkg", installer.pid), "__pycache__", installer.pid).error, 0);
  CHECK_EQ(m.create(m.walk("pkg/__pycache__", installer.pid), "old.pyc", installer.pid).error, 0);
  m.commit(1, 1);
  const uint64_t cache = m.walk("pkg/__pycache__");
  for (const auto& name : {"a.pyc\0"s, "b.pyc\0"s, "c.pyc\0"s}) {
    fuse_create_in in{};
    in.flags = O_CREAT | O_EXCL | O_WRONLY;
    in.mode = S_IFREG | 0644;
    const uint64_t unique = m.send(FUSE_CREATE, cache, bytesOf(in, name), writer.pid);
    const auto asked = m.nextWriter();
    REQUIRE(asked.has_value());
    m.overlay->decide(asked->request, Verdict::kLive, 0);
    const auto made = m.kernel.wait(unique);
    REQUIRE(made.has_value());
    CHECK_EQ(made->error, 0);
    CHECK_EQ(m.write(made->as<fuse_entry_out>().nodeid, "code", writer.pid).error, 0);
  }
  const auto whole = m.list(cache, false, 4096, remover.pid);
  CHECK_EQ(whole.size(), 6u);
  REQUIRE(m.begin(2, remover.pid) == 0);
  CHECK_EQ(m.unlink(m.walk("pkg/__pycache__", remover.pid), "old.pyc", remover.pid), 0);
  for (size_t i = 0; i < whole.size(); ++i) {
    CHECK_EQ(m.list(cache, false, 300, remover.pid, whole[i].offset).size(), whole.size() - i - 1);
  }
}

// rm -r opens what it is about to empty before it becomes a writer.
TEST(who_becomes_a_member_while_he_lists_goes_on_with_what_he_began) {
  Mounted m;
  Process remover;
  for (const uint64_t directory : {m.walk("pkg"), uint64_t{kRootIno}}) {
    const auto whole = m.list(directory, false, 4096, remover.pid);
    REQUIRE(whole.size() > 3);
    const uint32_t id = directory == kRootIno ? 2 : 1;
    REQUIRE(m.begin(id, remover.pid) == 0);
    CHECK_EQ(m.unlink(directory, "__init__.py", remover.pid) == 0, directory != kRootIno);
    for (size_t i = 2; i < whole.size(); ++i) {
      auto rest = names(m.list(directory, true, 300, remover.pid, whole[i].offset));
      for (size_t j = 0; j < whole.size(); ++j) CHECK_EQ(rest.contains(whole[j].name), j > i);
    }
    // The other way there is nothing to go on with.
    const auto own = m.list(directory, false, 4096, remover.pid);
    CHECK_EQ(m.overlay->abortTransaction(id), 0);
    CHECK_EQ(m.listReply(directory, false, 4096, remover.pid, own.back().offset).error, -ESTALE);
    CHECK_EQ(m.listReply(directory, false, 4096, remover.pid, own.front().offset).error, -ESTALE);
  }
}

// In pieces of one entry: wherever it stops, it goes on with the same generation, though there are others by then.
TEST(a_listing_of_the_root_goes_on_with_its_generation) {
  // Beyond what is kept of a number beside one of the live layer.
  for (const uint64_t first : {uint64_t{1}, uint64_t{5000}, (uint64_t{1} << 29) + 7}) {
    Mounted m;
    Process installer, writer;
    m.install(1, first, installer.pid);
    fuse_mkdir_in in{};
    in.mode = 0755;
    const uint64_t unique = m.send(FUSE_MKDIR, kRootIno, bytesOf(in, "__pycache__\0"s), writer.pid);
    const auto asked = m.nextWriter();
    REQUIRE(asked.has_value());
    m.overlay->decide(asked->request, Verdict::kLive, 0);
    CHECK_EQ(m.kernel.wait(unique)->error, 0);
    const auto whole = m.list(kRootIno, false, 4096);
    CHECK_EQ(whole.back().name, "__pycache__");
    REQUIRE(m.begin(2, installer.pid) == 0);
    CHECK_EQ(m.mkdir(kRootIno, "aaa", installer.pid).error, 0);
    m.commit(2, first + 1);
    m.install(3, first + 2, installer.pid);
    CHECK(names(m.list(kRootIno, false, 4096)).contains("aaa"));
    for (size_t i = 0; i < whole.size(); ++i) {
      const auto rest = m.list(kRootIno, i % 2 == 0, 300, 0, whole[i].offset);
      REQUIRE(rest.size() == whole.size() - i - 1);
      for (size_t j = 0; j < rest.size(); ++j) CHECK_EQ(rest[j].name, whole[i + 1 + j].name);
    }
  }
}
