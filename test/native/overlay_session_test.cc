// The overlay behind a session on a fake kernel: views, timeouts, the swap, writers, the barrier. No mount, no root.
#include <sys/wait.h>

#include <atomic>
#include <condition_variable>
#include <thread>

#include "check.h"
#include "fake_kernel.h"
#include "fuse/opcodes.h"
#include "overlay/overlay.h"
#include "overlay/scan.h"
#include "overlay_mounted.h"

using namespace siteswap::test;

TEST(a_committed_view_is_cached_for_ever) {
  Mounted m;
  const fuse_entry_out pkg = m.lookup(kRootIno, "pkg");
  CHECK(pkg.nodeid > kRootIno);
  CHECK_EQ(pkg.attr.ino, pkg.nodeid);
  CHECK_EQ(pkg.entry_valid, kForever);
  CHECK_EQ(pkg.attr_valid, kForever);
  CHECK_EQ(m.getattr(kRootIno).attr_valid, kForever);
  const fuse_entry_out init = m.lookup(pkg.nodeid, "__init__.py");
  CHECK_EQ(init.entry_valid, kForever);
  CHECK_EQ(init.attr_valid, kForever);
  CHECK_EQ(init.attr.size, 4u);
  CHECK_EQ(m.getattr(init.nodeid).attr_valid, kForever);
  for (const uint64_t parent : {kRootIno, pkg.nodeid}) {
    const Reply missing = m.lookupReply(parent, "missing");
    CHECK_EQ(missing.error, 0);
    CHECK_EQ(missing.as<fuse_entry_out>().nodeid, 0u);
    CHECK_EQ(missing.as<fuse_entry_out>().entry_valid, kForever);
  }
  CHECK_EQ(m.read(init.nodeid), "init");
  CHECK_EQ(m.text(m.readReply(init.nodeid, 2, 1)), "i");
  CHECK_EQ(m.text(m.readReply(init.nodeid, 4, 10)), "");
  CHECK_EQ(m.text(m.readReply(init.nodeid, ~uint64_t{0}, 10)), "");
  CHECK_EQ(m.readReply(pkg.nodeid, 0, 10).error, -EISDIR);
  CHECK_EQ(m.text(m.ask(FUSE_READLINK, m.walk("link"), {})), "pkg/__init__.py");
  CHECK_EQ(m.ask(FUSE_READLINK, pkg.nodeid, {}).error, -EINVAL);
  CHECK_EQ(m.lookupReply(init.nodeid, "x").error, -ENOTDIR);
  CHECK_EQ(m.lookupReply(kRootIno, std::string(256, 'n')).error, -ENAMETOOLONG);
  CHECK_EQ(m.lookupReply(987654321, "x").error, -ESTALE);
  CHECK_EQ(m.overlay->committedViewEvents(), 0u);
}

TEST(listings) {
  Mounted m;
  const std::set<std::string> wanted{".", "..", "also", "link", "other", "pkg", "version"};
  for (const bool plus : {false, true}) {
    for (const uint32_t size : {160u, 200u, 300u, 4096u, 1u << 20}) {
      std::set<std::string> got;
      for (const Named& named : m.list(kRootIno, plus, size)) {
        CHECK(got.insert(named.name).second);
        if (named.name == "." || named.name == "..") {
          CHECK_EQ(named.ino, kRootIno);
          CHECK_EQ(named.nodeid, 0u);
          continue;
        }
        CHECK_EQ(named.ino, m.lookup(kRootIno, named.name).nodeid);
        CHECK_EQ(named.nodeid, 0u);
      }
      CHECK(got == wanted);
    }
  }
  const uint64_t pkg = m.walk("pkg");
  CHECK_EQ(m.list(pkg, true, 4096).size(), 4u);
  for (const Named& named : m.list(pkg, true, 4096)) CHECK_EQ(named.nodeid, named.name[0] == '.' ? 0 : named.ino);
  CHECK_EQ(m.list(m.walk("pkg/sub"), false, 4096)[1].ino, pkg);
  fuse_read_in in{};
  in.size = 4096, in.offset = ~uint64_t{0};
  CHECK_EQ(m.ask(FUSE_READDIR, pkg, bytesOf(in)).body.size(), 0u);
  in.offset = 0;
  CHECK_EQ(m.ask(FUSE_READDIR, m.walk("version"), bytesOf(in)).error, -ENOTDIR);
  // No generation, no transaction.
  for (const uint64_t offset : {uint64_t{77} << 32 | 3, uint64_t{1} << 62 | 3, uint64_t{3} << 61, ~uint64_t{0}}) {
    in.offset = offset;
    CHECK_EQ(m.ask(FUSE_READDIR, kRootIno, bytesOf(in)).error, -ESTALE);
  }
}

TEST(without_epochs_root_names_are_never_cached) {
  SessionOptions options;
  options.disableEpoch = true;
  Mounted m(options);
  CHECK_EQ(m.lookup(kRootIno, "pkg").entry_valid, 0u);
  CHECK_EQ(m.getattr(kRootIno).attr_valid, 0u);
  CHECK_EQ(m.lookupReply(kRootIno, "missing").error, -ENOENT);
  CHECK_EQ(m.lookup(m.walk("pkg"), "__init__.py").entry_valid, kForever);
  for (const Named& named : m.list(kRootIno, true, 4096)) CHECK_EQ(named.nodeid, 0u);
}

TEST(while_a_transaction_is_open) {
  Mounted m;
  Process member, reader;
  const uint64_t committed = m.walk("pkg/__init__.py");
  REQUIRE(m.begin(1, member.pid) == 0);
  m.checkRefreshed();
  CHECK_EQ(m.begin(1, member.pid), EEXIST);
  for (const pid_t pid : {member.pid, reader.pid, 0}) {
    CHECK_EQ(m.lookup(kRootIno, "pkg", pid).entry_valid, 0u);
    CHECK_EQ(m.lookupReply(kRootIno, "missing", pid).error, -ENOENT);
  }
  CHECK_EQ(m.getattr(kRootIno, reader.pid).attr_valid, 0u);
  CHECK_EQ(m.walk("pkg/__init__.py", reader.pid), committed);
  const uint64_t own = m.walk("pkg/__init__.py", member.pid);
  CHECK(own != committed && own != 0);
  CHECK_EQ(m.read(own, member.pid), "init");

  const Reply made = m.create(kRootIno, "new", member.pid);
  CHECK_EQ(made.error, 0);
  const uint64_t file = made.as<fuse_entry_out>().nodeid;
  CHECK_EQ(made.as<fuse_entry_out>().entry_valid, 0u);
  CHECK_EQ(m.write(file, "bytes", member.pid).as<fuse_write_out>().size, 5u);
  CHECK_EQ(m.write(own, "INIT!", member.pid).error, 0);
  CHECK_EQ(m.readPath("new", member.pid), "bytes");
  CHECK_EQ(m.readPath("pkg/__init__.py", member.pid), "INIT!");
  CHECK_EQ(m.walk("new", reader.pid), 0u);
  CHECK_EQ(m.readPath("pkg/__init__.py", reader.pid), "init");
  CHECK_EQ(m.readPath("pkg/__init__.py"), "init");
  std::set<std::string> names;
  for (const Named& named : m.list(kRootIno, true, 300, member.pid)) names.insert(named.name);
  CHECK(names.contains("new"));
  for (const Named& named : m.list(kRootIno, false, 4096, reader.pid)) CHECK(named.name != "new");
  // A member changes the attributes of its own file, through the committed file's number too.
  fuse_setattr_in mode{};
  mode.valid = FATTR_MODE, mode.mode = 0600;
  CHECK_EQ(m.ask(FUSE_SETATTR, committed, bytesOf(mode), member.pid).error, 0);
  CHECK_EQ(m.ask(FUSE_SETATTR, own, bytesOf(mode), member.pid).error, 0);
  // In a committed directory where a member stands (a cwd) it works on its own tree.
  const uint64_t committedPkg = m.walk("pkg", reader.pid);
  CHECK_EQ(m.mkdir(committedPkg, "made", member.pid).error, 0);
  CHECK(m.walk("pkg/made", member.pid) != 0);
  CHECK(m.lookup(committedPkg, "made", member.pid).nodeid != 0);
  CHECK_EQ(m.lookup(committedPkg, "made", reader.pid).nodeid, 0u);
  CHECK_EQ(m.writersSeen(), 0u);

  m.dropNotifications();
  CHECK_EQ(m.overlay->abortTransaction(1), 0);
  m.checkRefreshed();
  CHECK_EQ(m.walk("new", member.pid), 0u);
  CHECK_EQ(m.ask(FUSE_GETATTR, file, bytesOf(fuse_getattr_in{}), member.pid).error, -ESTALE);
  CHECK_EQ(m.lookup(kRootIno, "pkg", member.pid).entry_valid, kForever);
  CHECK_EQ(m.overlay->abortTransaction(1), ENOENT);
}

TEST(commit_and_pins) {
  Mounted m;
  Process installer, oldReader, newReader;
  CHECK_EQ(m.begin(1, 0x3fffffff), ESRCH);
  std::filesystem::remove(m.dir / "txn1");
  m.listRoot(oldReader.pid);
  const uint64_t oldNode = m.walk("version", oldReader.pid);
  m.install(1, 1, installer.pid);
  CHECK_EQ(m.readPath("version", newReader.pid), "1");
  CHECK_EQ(m.readPath("version", installer.pid), "1");
  CHECK_EQ(m.readPath("version", oldReader.pid), "0");
  CHECK_EQ(m.walk("version", oldReader.pid), oldNode);
  CHECK_EQ(m.read(oldNode, newReader.pid), "0");
  // Names that differ ask, those that do not differ are cached.
  CHECK_EQ(m.lookup(kRootIno, "version", newReader.pid).entry_valid, 0u);
  CHECK_EQ(m.lookup(kRootIno, "pkg", newReader.pid).entry_valid, kForever);
  const auto pins = m.overlay->pins();
  CHECK_EQ(pins.size(), 1u);
  CHECK(!pins.empty() && pins[0].pid == oldReader.pid && pins[0].generation == 0);
  oldReader.end();
  for (int i = 0; i < 5000 && !m.overlay->pins().empty(); ++i) std::this_thread::sleep_for(1ms);
  CHECK(m.overlay->pins().empty());
  // Once it is certain that it has left no fork behind.
  for (int i = 0; i < 50 && m.lookup(kRootIno, "version", newReader.pid).entry_valid != kForever; ++i) {
    std::this_thread::sleep_for(100ms);
  }
  CHECK_EQ(m.lookup(kRootIno, "version", newReader.pid).entry_valid, kForever);
  // Back, without a transaction: generation 2 is generation 0 again.
  std::string error;
  CHECK_EQ(m.overlay->publish(77, 0, error), EBADMSG);
  CHECK(!error.empty());
  CHECK_EQ(m.overlay->publish(0, 0, error), 0);
  CHECK_EQ(m.readPath("version", newReader.pid), "0");
}

// A whole environment is mounted over: Python lists its site-packages, never the root.
TEST(who_lists_site_packages_keeps_its_generation) {
  Mounted m;
  Process installer, early, late, fresh, other;
  const auto make = [&](uint64_t parent, const char* name) {
    const Reply made = m.mkdir(parent, name, installer.pid);
    CHECK_EQ(made.error, 0);
    return made.as<fuse_entry_out>().nodeid;
  };
  const auto put = [&](uint64_t directory, const char* text) {
    const Reply made = m.create(directory, text, installer.pid);
    CHECK_EQ(m.write(made.as<fuse_entry_out>().nodeid, text, installer.pid).error, 0);
  };
  const auto pinOf = [&](const Process& process) {
    for (const auto& pin : m.overlay->pins()) {
      if (pin.pid == process.pid) return static_cast<int>(pin.generation);
    }
    return -1;
  };
  CHECK_EQ(m.begin(1, installer.pid), 0);
  const uint64_t lib = make(kRootIno, "lib");
  put(make(lib, "site-packages"), "one");
  make(lib, "other");
  m.commit(1, 1);
  const uint64_t first = m.walk("lib/site-packages", early.pid);
  m.list(first, false, 4096, early.pid);
  m.list(m.walk("lib/other", other.pid), false, 4096, other.pid);
  CHECK_EQ(pinOf(early), 1);
  CHECK_EQ(pinOf(other), -1);

  CHECK_EQ(m.begin(2, installer.pid), 0);
  put(m.walk("lib/site-packages", installer.pid), "two");
  m.commit(2, 2);
  CHECK(m.walk("lib/site-packages/two", early.pid) == 0);
  CHECK(m.walk("lib/site-packages/two", fresh.pid) != 0);
  const uint64_t second = m.walk("lib/site-packages", fresh.pid);
  CHECK(second != first);
  m.list(second, true, 4096, fresh.pid);
  CHECK_EQ(pinOf(fresh), 2);
  early.end();
  for (int i = 0; i < 50 && m.lookup(kRootIno, "lib", fresh.pid).entry_valid != kForever; ++i) {
    std::this_thread::sleep_for(100ms);
  }
  CHECK_EQ(m.lookup(kRootIno, "lib", fresh.pid).entry_valid, kForever);
  // It had walked there before HEAD moved; the kernel has what HEAD has cached for everybody.
  m.dropNotifications();
  m.list(first, true, 4096, late.pid);
  m.checkRefreshed();
  CHECK_EQ(pinOf(late), 1);
  CHECK_EQ(m.walk("lib/site-packages", late.pid), first);
  CHECK_EQ(m.lookup(kRootIno, "lib", fresh.pid).entry_valid, 0u);
  CHECK_EQ(m.walk("lib/site-packages", fresh.pid), second);
}

TEST(one_listing_shows_one_generation) {
  Mounted m;
  Process installer;
  const auto whole = m.list(kRootIno, false, 40);
  CHECK_EQ(m.begin(1, installer.pid), 0);
  CHECK_EQ(m.unlink(kRootIno, "version", installer.pid), 0);
  CHECK_EQ(m.mkdir(kRootIno, "aaa", installer.pid).error, 0);
  m.commit(1, 1);
  CHECK_EQ(m.list(kRootIno, false, 4096)[2].name, "aaa");
  // Wherever it was by then.
  for (size_t i = 0; i < whole.size(); ++i) {
    std::vector<std::string> rest, expected;
    for (const Named& named : m.list(kRootIno, true, 300, installer.pid, whole[i].offset)) rest.push_back(named.name);
    for (size_t j = i + 1; j < whole.size(); ++j) expected.push_back(whole[j].name);
    CHECK(rest == expected);
  }
}

TEST(the_swap_tells_the_kernel_before_its_first_answer) {
  Mounted m;
  Process installer;
  for (uint64_t generation = 1; generation <= 15; ++generation) {
    const auto id = static_cast<uint32_t>(generation);
    CHECK_EQ(m.begin(id, installer.pid), 0);
    const uint64_t old = m.lookup(kRootIno, "version").nodeid;
    CHECK_EQ(m.unlink(kRootIno, "version", installer.pid), 0);
    CHECK_EQ(m.create(kRootIno, "version", installer.pid).error, 0);
    m.dropNotifications();
    std::thread asker([&] {
      for (;;) {
        const uint64_t now = m.lookup(kRootIno, "version").nodeid;
        if (now == old) continue;
        // One stream: what was sent before the answer is here already.
        m.checkRefreshed(0);
        return;
      }
    });
    m.commit(id, generation);
    asker.join();
  }
}

// Readers wait for the swap: no more is in it than must be.
TEST(new_directories_are_told_of_after_the_swap) {
  Mounted m;
  Process installer;
  CHECK_EQ(m.begin(1, installer.pid), 0);
  std::set<uint64_t> made;
  uint64_t parent = kRootIno;
  for (const char* name : {"new", "below", "further"}) {
    parent = m.mkdir(parent, name, installer.pid).as<fuse_entry_out>().nodeid;
    made.insert(parent);
  }
  m.dropNotifications();
  m.commit(1, 1);
  const auto first = m.kernel.waitNotification(), second = m.kernel.waitNotification();
  REQUIRE(first && second);
  CHECK_EQ(first->error, kNotifyIncEpoch);
  CHECK_EQ(second->as<fuse_notify_inval_inode_out>().ino, kRootIno);
  std::set<uint64_t> told;
  while (const auto next = m.kernel.waitNotification(0)) {
    CHECK_EQ(next->error, kNotifyInvalInode);
    const auto out = next->as<fuse_notify_inval_inode_out>();
    CHECK(out.off < 0);
    told.insert(out.ino);
  }
  CHECK(told == made);
  // Their numbers are the generation's now, and who walks there is told what it says.
  for (const uint64_t directory : made) {
    const fuse_attr attr = m.getattr(directory).attr;
    CHECK(attr.mtime != 0 && S_ISDIR(attr.mode));
  }
  const fuse_attr walked = m.lookup(kRootIno, "new", installer.pid).attr;
  CHECK(made.contains(walked.ino));
  CHECK_EQ(walked.mtimensec, m.getattr(walked.ino).attr.mtimensec);
}

TEST(a_writer_waits_for_its_decision) {
  Mounted m;
  Process writer;
  fuse_create_in in{};
  in.mode = S_IFREG | 0644, in.flags = O_CREAT | O_EXCL;
  const uint64_t unique = m.send(FUSE_CREATE, kRootIno, bytesOf(in, "new\0"s), writer.pid);
  const auto asked = m.nextWriter();
  REQUIRE(asked.has_value());
  CHECK_EQ(asked->pid, writer.pid);
  CHECK_EQ(asked->path, "new");
  CHECK_EQ(asked->op, "create");
  CHECK_EQ(m.overlay->parkedCount(), 1u);
  CHECK(m.isUnanswered(unique));
  // Others are served meanwhile, the writer's own reads too.
  CHECK_EQ(m.readPath("version", writer.pid), "0");
  m.overlay->decide(asked->request + 1000, Verdict::kError, EACCES);
  CHECK(m.isUnanswered(unique));
  m.overlay->decide(asked->request, Verdict::kError, EACCES);
  CHECK_EQ(m.kernel.wait(unique)->error, -EACCES);
  m.overlay->decide(asked->request, Verdict::kError, EACCES);
  CHECK_EQ(m.writersSeen(), 1u);
  CHECK_EQ(m.overlay->committedViewEvents(), 1u);
  CHECK_EQ(m.overlay->parkedCount(), 0u);

  // Becomes an installer: the request runs again, by the root's own number at once.
  const uint64_t again = m.send(FUSE_CREATE, kRootIno, bytesOf(in, "new\0"s), writer.pid);
  const auto second = m.nextWriter();
  REQUIRE(second.has_value());
  REQUIRE(m.begin(1, writer.pid) == 0);
  m.overlay->decide(second->request, Verdict::kRetry, 0);
  CHECK_EQ(m.kernel.wait(again)->error, 0);
  CHECK(m.walk("new", writer.pid) != 0);
  CHECK_EQ(m.writersSeen(), 2u);
  CHECK_EQ(m.mkdir(kRootIno, "more", writer.pid).error, 0);
  CHECK_EQ(m.writersSeen(), 2u);
}

TEST(a_writer_below_the_root_walks_again) {
  Mounted m;
  Process writer;
  const uint64_t pkg = m.walk("pkg"), file = m.walk("pkg/__init__.py");
  fuse_mkdir_in in{};
  in.mode = 0755;
  const uint64_t unique = m.send(FUSE_MKDIR, pkg, bytesOf(in, "made\0"s), writer.pid);
  const auto asked = m.nextWriter();
  REQUIRE(asked.has_value());
  CHECK_EQ(asked->path, "pkg/made");
  REQUIRE(m.begin(1, writer.pid) == 0);
  m.overlay->decide(asked->request, Verdict::kRetry, 0);
  CHECK_EQ(m.kernel.wait(unique)->error, -ESTALE);
  const uint64_t own = m.walk("pkg", writer.pid);
  CHECK(own != pkg);
  CHECK_EQ(m.mkdir(own, "made", writer.pid).error, 0);
  // A file that is truncated: the same.
  fuse_setattr_in size{};
  size.valid = FATTR_SIZE;
  CHECK_EQ(m.ask(FUSE_SETATTR, file, bytesOf(size), writer.pid).error, -ESTALE);
  CHECK_EQ(m.writersSeen(), 1u);
}

TEST(who_cannot_be_seen_cannot_write) {
  Mounted m;
  CHECK_EQ(m.create(kRootIno, "new", 0).error, -EROFS);
  CHECK_EQ(m.mkdir(m.walk("pkg"), "new", 0).error, -EROFS);
  CHECK_EQ(m.unlink(kRootIno, "version", 0), -EROFS);
  fuse_rename2_in rename{};
  rename.newdir = kRootIno;
  CHECK_EQ(m.ask(FUSE_RENAME2, kRootIno, bytesOf(rename, "version\0new\0"s)).error, -EROFS);
  fuse_setattr_in mode{};
  mode.valid = FATTR_MODE;
  CHECK_EQ(m.ask(FUSE_SETATTR, m.walk("version"), bytesOf(mode)).error, -EROFS);
  CHECK_EQ(m.ask(FUSE_SETATTR, kRootIno, bytesOf(mode)).error, -EROFS);
  CHECK_EQ(m.writersSeen(), 0u);
  // With a transaction open too.
  Process member;
  REQUIRE(m.begin(1, member.pid) == 0);
  CHECK_EQ(m.create(kRootIno, "new", 0).error, -EROFS);
  CHECK_EQ(m.writersSeen(), 0u);
}

TEST(the_barrier) {
  Mounted m;
  Process installer, pinned, fresh, killed;
  m.listRoot(pinned.pid);
  REQUIRE(m.begin(1, installer.pid) == 0);
  CHECK_EQ(m.unlink(kRootIno, "version", installer.pid), 0);
  const Reply made = m.create(kRootIno, "version", installer.pid);
  CHECK_EQ(m.write(made.as<fuse_entry_out>().nodeid, "1", installer.pid).error, 0);
  // While it lives nobody waits.
  {
    Process early;
    CHECK_EQ(m.readPath("version", early.pid), "0");
  }
  installer.end();
  const uint64_t waiting = m.send(FUSE_GETATTR, kRootIno, bytesOf(fuse_getattr_in{}), fresh.pid);
  REQUIRE(m.waitParked(1));
  // A name never waits: the kernel may hold the root's lock, and has asked for its attributes before.
  CHECK_EQ(m.read(m.lookup(kRootIno, "version", fresh.pid).nodeid), "0");
  const uint64_t ancestor = m.send(FUSE_GETATTR, kRootIno, bytesOf(fuse_getattr_in{}), ::getpid());
  REQUIRE(m.waitParked(2));
  const uint64_t interrupted = m.send(FUSE_GETATTR, kRootIno, bytesOf(fuse_getattr_in{}), killed.pid);
  REQUIRE(m.waitParked(3));
  CHECK(m.isUnanswered(waiting));
  // Pinned readers never wait; nor does who can't be told apart.
  CHECK_EQ(m.readPath("version", pinned.pid), "0");
  CHECK_EQ(m.readPath("version"), "0");
  CHECK_EQ(m.readPath("pkg/__init__.py", pinned.pid), "init");
  // A signal for one that waits.
  fuse_interrupt_in in{};
  in.unique = interrupted;
  m.kernel.send(FUSE_INTERRUPT, 0, bytesOf(in), interrupted | 1);
  const auto ended = m.kernel.wait(interrupted);
  CHECK(ended && ended->error == -EINTR);
  CHECK(m.isUnanswered(waiting));
  CHECK_EQ(m.overlay->parkedCount(), 2u);
  m.commit(1, 1);
  const auto found = m.kernel.wait(waiting);
  REQUIRE(found && found->error == 0);
  CHECK_EQ(m.readPath("version", fresh.pid), "1");
  const auto opened = m.kernel.wait(ancestor);
  CHECK(opened && opened->error == 0);
  CHECK_EQ(m.readPath("version", ::getpid()), "1");
  CHECK_EQ(m.readPath("version", pinned.pid), "0");
  for (int i = 0; i < 5000 && m.rootsExited == 0; ++i) std::this_thread::sleep_for(1ms);
  CHECK_EQ(m.rootsExited, 1);
}

TEST(the_barrier_is_released_without_a_commit) {
  for (const bool abort : {false, true}) {
    Mounted m;
    Process installer, fresh;
    REQUIRE(m.begin(1, installer.pid) == 0);
    CHECK_EQ(m.unlink(kRootIno, "version", installer.pid), 0);
    installer.end();
    const uint64_t waiting = m.send(FUSE_GETATTR, kRootIno, bytesOf(fuse_getattr_in{}), fresh.pid);
    REQUIRE(m.waitParked(1));
    CHECK_EQ(abort ? m.overlay->abortTransaction(1) : m.overlay->releaseBarrier(1), 0);
    const auto found = m.kernel.wait(waiting);
    REQUIRE(found && found->error == 0);
    CHECK_EQ(m.readPath("version", fresh.pid), "0");
    Process later;
    CHECK_EQ(m.readPath("version", later.pid), "0");
  }
}

TEST(interrupts) {
  Mounted m;
  Process writer;
  const uint64_t unique = m.send(FUSE_UNLINK, kRootIno, bytesOf("version\0"s), writer.pid);
  const auto asked = m.nextWriter();
  REQUIRE(asked.has_value());
  fuse_interrupt_in in{};
  in.unique = unique;
  m.kernel.send(FUSE_INTERRUPT, 0, bytesOf(in), unique | 1);
  const auto ended = m.kernel.wait(unique);
  CHECK(ended && ended->error == -EINTR);
  // The decision comes too late.
  m.overlay->decide(asked->request, Verdict::kRetry, 0);
  CHECK_EQ(m.overlay->parkedCount(), 0u);
  // Of what nobody knows.
  for (uint64_t i = 0; i < 200; ++i) {
    in.unique = 1'000'000 + 2 * i;
    m.kernel.send(FUSE_INTERRUPT, 0, bytesOf(in), in.unique | 1);
  }
  CHECK_EQ(m.readPath("version"), "0");
}

// Each numbers its requests itself.
// A second session on the same engine, as a verifier's mount is.
struct Viewer {
  explicit Viewer(Mounted& m) {
    SessionOptions options;
    options.deviceFd = kernel.deviceFd();
    options.stopped = [](siteswap::fuse::StopReason, const std::string&) {};
    session = std::make_unique<Session>(options, *m.overlay);
    session->start([](const siteswap::fuse::Negotiated&) {});
    CHECK_EQ(kernel.init(45, FakeKernel::kAllFlags).error, 0);
  }
  FakeKernel kernel;
  std::unique_ptr<Session> session;
};

TEST(an_interrupt_of_another_session_is_not_for_this_one) {
  Mounted m;
  Viewer viewer(m);
  FakeKernel& other = viewer.kernel;
  Process writer;
  const uint64_t unique = m.send(FUSE_UNLINK, kRootIno, bytesOf("version\0"s), writer.pid);
  REQUIRE(m.nextWriter().has_value());
  fuse_interrupt_in in{};
  in.unique = unique;
  other.send(FUSE_INTERRUPT, 0, bytesOf(in), unique | 1);
  CHECK_EQ(other.ask(FUSE_STATFS, kRootIno, {}).error, 0);
  CHECK_EQ(m.overlay->parkedCount(), 1u);
  CHECK(m.isUnanswered(unique));
  // Nor for the one that will have this number here.
  in.unique = unique + 2;
  other.send(FUSE_INTERRUPT, 0, bytesOf(in), in.unique | 1);
  CHECK_EQ(other.ask(FUSE_STATFS, kRootIno, {}).error, 0);
  CHECK_EQ(m.send(FUSE_UNLINK, kRootIno, bytesOf("also\0"s), writer.pid), unique + 2);
  CHECK(m.nextWriter().has_value());
  CHECK_EQ(m.overlay->parkedCount(), 2u);
  in.unique = unique;
  m.kernel.send(FUSE_INTERRUPT, 0, bytesOf(in), unique | 1);
  const auto ended = m.kernel.wait(unique);
  CHECK(ended && ended->error == -EINTR);
}

// A verifier's observation may be over before its mount is gone: then it waits as everybody does.
TEST(what_waits_in_a_session_that_goes_is_released) {
  Mounted m;
  Process installer, fresh, writer;
  REQUIRE(m.begin(1, installer.pid) == 0);
  installer.end();
  {
    Viewer viewer(m);
    const Bytes getattr = bytesOf(fuse_getattr_in{});
    const uint64_t waiting = viewer.kernel.send(FUSE_GETATTR, kRootIno, getattr, {}, static_cast<uint32_t>(fresh.pid));
    REQUIRE(m.waitParked(1));
    const uint64_t here = m.send(FUSE_GETATTR, kRootIno, getattr, writer.pid);
    REQUIRE(m.waitParked(2));
    viewer.session->stop();
    m.overlay->release(*viewer.session);
    const auto ended = viewer.kernel.wait(waiting);
    CHECK(ended && ended->error == -EINTR);
    CHECK_EQ(m.overlay->parkedCount(), 1u);
    CHECK(m.isUnanswered(here));
  }
  CHECK_EQ(m.overlay->abortTransaction(1), 0);
  CHECK_EQ(m.overlay->parkedCount(), 0u);
  // One that is decided goes on in its own session, where its threads are.
  Viewer viewer(m);
  REQUIRE(m.begin(2, writer.pid) == 0);
  writer.end();
  Process late;
  const uint64_t waiting =
      viewer.kernel.send(FUSE_GETATTR, kRootIno, bytesOf(fuse_getattr_in{}), {}, static_cast<uint32_t>(late.pid));
  REQUIRE(m.waitParked(1));
  CHECK_EQ(m.overlay->abortTransaction(2), 0);
  const auto answered = viewer.kernel.wait(waiting);
  CHECK(answered && answered->error == 0);
}

TEST(shutting_down_answers_what_waits) {
  auto m = std::make_unique<Mounted>();
  Process installer, fresh, writer;
  const uint64_t deciding = m->send(FUSE_UNLINK, kRootIno, bytesOf("version\0"s), writer.pid);
  REQUIRE(m->nextWriter().has_value());
  REQUIRE(m->begin(1, installer.pid) == 0);
  installer.end();
  const uint64_t waiting = m->send(FUSE_GETATTR, kRootIno, bytesOf(fuse_getattr_in{}), fresh.pid);
  REQUIRE(m->waitParked(2));
  m->overlay->shutDown();
  for (const uint64_t unique : {deciding, waiting}) {
    const auto ended = m->kernel.wait(unique);
    CHECK(ended && ended->error == -EINTR);
  }
  // Nobody is parked any more.
  CHECK(m->kernel.wait(m->send(FUSE_GETATTR, kRootIno, bytesOf(fuse_getattr_in{}), fresh.pid)).has_value());
  m.reset();
}

TEST(a_change_while_the_transaction_is_judged_waits) {
  Mounted m;
  Process member;
  REQUIRE(m.begin(1, member.pid) == 0);
  const uint64_t file = m.create(kRootIno, "new", member.pid).as<fuse_entry_out>().nodeid;
  CHECK_EQ(m.overlay->freezeTransaction(1), 0);
  CHECK_EQ(m.overlay->freezeTransaction(2), ENOENT);
  TransactionInfo info;
  CHECK_EQ(m.overlay->transactionInfo(1, info), 0);
  CHECK_EQ(info.state, "frozen");
  CHECK(info.mutations > 0);
  CHECK(info.members == std::vector<int>{member.pid});
  fuse_write_in in{};
  in.size = 1;
  const uint64_t unique = m.send(FUSE_WRITE, file, bytesOf(in, "x"s), member.pid);
  REQUIRE(m.waitParked(1));
  CHECK_EQ(m.overlay->abortTransaction(1), 0);
  const auto ended = m.kernel.wait(unique);
  CHECK(ended && ended->error == -ESTALE);
}

TEST(restored_transactions) {
  Mounted m;
  Process member;
  REQUIRE(m.begin(1, member.pid) == 0);
  const uint64_t file = m.create(kRootIno, "new", member.pid).as<fuse_entry_out>().nodeid;
  CHECK_EQ(m.write(file, "bytes", member.pid).error, 0);
  // As another transaction, while the first is there: numbers belong to both, names do not.
  CHECK_EQ(m.overlay->restoreTransaction(2, m.dir / "txn1"), 0);
  CHECK_EQ(m.overlay->restoreTransaction(2, m.dir / "txn1"), EEXIST);
  CHECK_EQ(m.overlay->restoreTransaction(3, m.dir / "nothing"), ENOENT);
  std::string bytes;
  CHECK_EQ(m.overlay->pathRead({true, 2}, "new", bytes), 0);
  CHECK_EQ(bytes, "bytes");
  CHECK_EQ(m.overlay->abortTransaction(1), 0);
  std::vector<Change> changes;
  CHECK_EQ(m.overlay->changes(2, changes), 0);
  CHECK(changes.size() == 1 && changes[0].path == "new");
  CHECK_EQ(m.overlay->abortTransaction(2), 0);
}

TEST(path_calls) {
  Mounted m;
  Overlay::PathNode node;
  CHECK_EQ(m.overlay->pathStat({false, 0}, "link", node), 0);
  CHECK_EQ(node.target, "pkg/__init__.py");
  CHECK_EQ(m.overlay->pathStat({false, 0}, "missing/x", node), ENOENT);
  CHECK_EQ(m.overlay->pathStat({false, 9}, "", node), ENOENT);
  std::vector<Overlay::PathEntry> entries;
  CHECK_EQ(m.overlay->pathList({false, 0}, "pkg", entries), 0);
  CHECK_EQ(entries.size(), 2u);
  CHECK_EQ(m.overlay->pathList({false, 0}, "version", entries), ENOTDIR);
  CHECK_EQ(m.overlay->pathList({true, 4}, "", entries), ENOENT);
  std::string bytes;
  CHECK_EQ(m.overlay->pathRead({false, 0}, "pkg/sub/deep.py", bytes), 0);
  CHECK_EQ(bytes, "deep");
  CHECK_EQ(m.overlay->pathRead({false, 0}, "pkg", bytes), EISDIR);
}

TEST(every_answer_is_of_one_generation) {
  Mounted m;
  Process installer, member;
  std::atomic<bool> done{false};
  std::atomic<uint64_t> answers{0};
  const auto number = [](const std::string& text) { return text.starts_with("<") ? -1L : std::atol(text.c_str()); };
  std::vector<std::thread> threads;
  // On HEAD: never back.
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      long last = 0;
      while (!done) {
        for (const char* name : {"version", "also"}) {
          const long now = number(m.readPath(name));
          CHECK(now >= last);
          last = now;
          ++answers;
        }
      }
    });
  }
  // Pinned: what it saw first, for as long as it lives.
  threads.emplace_back([&] {
    while (!done) {
      Process reader;
      m.listRoot(reader.pid);
      const long first = number(m.readPath("version", reader.pid));
      CHECK(first >= 0);
      for (int i = 0; i < 20 && !done; ++i) {
        CHECK_EQ(number(m.readPath(i % 2 == 0 ? "also" : "version", reader.pid)), first);
        ++answers;
      }
    }
  });
  // Who holds a file open reads the same file through the commit.
  std::atomic<uint64_t> open{0};
  std::atomic<long> openContent{0};
  threads.emplace_back([&] {
    while (!done) {
      const long before = openContent;
      const uint64_t node = open;
      if (node == 0) continue;
      const long got = number(m.read(node, installer.pid));
      if (before != openContent || node != open) continue;
      CHECK_EQ(got, before);
      const Reply attributes = m.ask(FUSE_GETATTR, node, bytesOf(fuse_getattr_in{}), installer.pid);
      CHECK_EQ(attributes.error, 0);
      ++answers;
    }
  });
  for (uint64_t generation = 1; generation <= 25; ++generation) {
    const auto id = static_cast<uint32_t>(generation);
    CHECK_EQ(m.begin(id, installer.pid), 0);
    for (const char* name : {"version", "also"}) {
      CHECK_EQ(m.unlink(kRootIno, name, installer.pid), 0);
      const Reply made = m.create(kRootIno, name, installer.pid);
      CHECK_EQ(made.error, 0);
      const uint64_t node = made.as<fuse_entry_out>().nodeid;
      CHECK_EQ(m.write(node, std::to_string(generation), installer.pid).error, 0);
      open = 0;
      openContent = static_cast<long>(generation);
      open = node;
    }
    m.commit(id, generation);
  }
  done = true;
  for (auto& thread : threads) thread.join();
  CHECK(answers > 0);  // how many, is the machine's load
}

TEST(random_requests) {
  Random random;
  Mounted m;
  Process member, stranger;
  REQUIRE(m.begin(1, member.pid, "token") == 0);
  std::atomic<bool> done{false};
  std::thread policy([&] {
    while (!done) {
      if (const auto asked = m.nextWriter(5ms)) {
        m.overlay->decide(asked->request, asked->request % 3 == 0 ? Verdict::kLive : Verdict::kError, EROFS);
      }
    }
  });
  const uint64_t ownRoot = m.walk(siteswap::overlay::ownRootName("token"), member.pid);
  REQUIRE(ownRoot != 0);
  std::vector<uint64_t> nodes{kRootIno, ownRoot, m.walk("pkg"), m.walk("version")};
  for (int i = 0; i < 4000; ++i) {
    const auto table = siteswap::fuse::opcodeTable();
    const auto& row = table[random(table.size())];
    if (row.handling != siteswap::fuse::Handling::kOperation) continue;
    Bytes body(row.wireBytes);
    for (std::byte& b : body) b = static_cast<std::byte>(random.chance(75) ? 0 : random(256));
    if (row.opcode == FUSE_READ || row.opcode == FUSE_READDIR || row.opcode == FUSE_READDIRPLUS) {
      auto& in = *reinterpret_cast<fuse_read_in*>(body.data());
      in.size = static_cast<uint32_t>(random(8192));
    }
    if (row.opcode == FUSE_RENAME2 && random.chance(80))
      *reinterpret_cast<fuse_rename2_in*>(body.data()) = {random.pick(nodes), 0, 0};
    if (row.opcode == FUSE_GETXATTR || row.opcode == FUSE_LISTXATTR) {
      reinterpret_cast<fuse_getxattr_in*>(body.data())->size = static_cast<uint32_t>(random(64));
    }
    if (row.opcode == FUSE_LINK) *reinterpret_cast<fuse_link_in*>(body.data()) = {random.pick(nodes)};
    if (row.opcode == FUSE_SETATTR || row.opcode == FUSE_FALLOCATE || row.opcode == FUSE_WRITE) {
      // No file of more than a few kilobytes.
      std::fill(body.begin() + 8, body.end(), std::byte{0});
      if (row.opcode == FUSE_SETATTR) reinterpret_cast<fuse_setattr_in*>(body.data())->size = random(5000);
    }
    if (row.opcode == FUSE_SETXATTR || row.opcode == FUSE_BATCH_FORGET)
      std::fill(body.begin(), body.end(), std::byte{0});
    // Whole names: what is malformed is the session's to refuse.
    for (int n = 0; n < row.names; ++n) {
      const std::string name = random.chance(30)   ? "__pycache__"
                               : random.chance(20) ? "version"
                                                   : random.pick(someNames());
      append(body, name.c_str(), name.size() + 1);
    }
    const uint64_t nodeid = random.chance(5) ? random.bits() : random.pick(nodes);
    const pid_t pids[] = {0, member.pid, member.pid, member.pid, stranger.pid};
    const uint64_t unique = m.send(row.opcode, nodeid, body, pids[random(5)]);
    if (!row.replies) continue;
    const auto reply = m.kernel.wait(unique);
    REQUIRE(reply.has_value());
    CHECK(reply->error <= 0 && reply->error > -4096);
    check::verify(reply->error != -EIO, __FILE__, __LINE__, "EIO for "s + row.name);
    const bool entry = row.opcode == FUSE_LOOKUP || row.opcode == FUSE_CREATE || row.opcode == FUSE_MKDIR ||
                       row.opcode == FUSE_MKNOD || row.opcode == FUSE_SYMLINK;
    if (entry && reply->error == 0 && reply->as<fuse_entry_out>().nodeid != 0 && nodes.size() < 60) {
      nodes.push_back(reply->as<fuse_entry_out>().nodeid);
    }
  }
  done = true;
  policy.join();
  std::vector<Change> changes;
  CHECK_EQ(m.overlay->changes(1, changes), 0);
  CHECK_EQ(m.readPath("pkg/__init__.py", stranger.pid), "init");
}

TEST(hostile_live_journals) {
  Random random;
  for (int round = 0; round < 300; ++round) {
    TempDir dir;
    CHECK_EQ(::mkdir((dir / "live").c_str(), 0700), 0);
    {
      Journal journal;
      REQUIRE(journal.create(dir / "live/journal") == 0);
      for (uint64_t i = random(20); i > 0; --i) {
        Record r;
        const RecordType types[] = {RecordType::kCreate, RecordType::kCreate,  RecordType::kUnlink,
                                    RecordType::kRename, RecordType::kOwnBody, RecordType::kSetAttributes};
        r.type = types[random(6)];
        r.ino = 100 + random(6);
        r.parent = random.chance(50) ? 100 + random(6) : 7;
        r.mode = random.chance(50) ? S_IFDIR | 0755 : S_IFREG | 0644;
        r.name = random.pick(someNames()), r.name2 = random.pick(someNames());
        CHECK_EQ(journal.append(r), 0);
      }
    }
    InoSource numbers(uint64_t{1} << 32, 1 << 20);
    std::vector<std::string> first;
    for (int start = 0; start < 2; ++start) {
      LiveLayer live;
      CHECK_EQ(live.open(dir / "live", &numbers, [](uint64_t key) { return key == 7 || key == 103; }), 0);
      std::vector<std::string> names;
      for (uint64_t key : {7, 100, 101, 102, 103, 104, 105}) {
        for (const auto& addition : live.additions(key)) {
          CHECK(live.child(key, addition.name).has_value());
          names.push_back(std::to_string(key) + "/" + addition.name);
        }
        live.attributes(key);
        live.remove(key, "nothing", false);
      }
      if (start == 0) first = names;
      CHECK(names == first);  // what was compacted is what was there
    }
  }
}
