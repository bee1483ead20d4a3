// Observers: they see a view that is not their own, wait for nobody, and change nothing.
#include <fcntl.h>

#include <cerrno>

#include "check.h"
#include "overlay_mounted.h"

namespace siteswap::test {
namespace {

using namespace overlay;
using namespace std::literals;

// Waits until the end of an observing process has been noticed.
bool waitForText(Mounted& m, const std::string& path, const std::string& text, pid_t tid) {
  for (int i = 0; i < 5000; ++i) {
    if (m.readPath(path, tid) == text) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

TEST(an_observer_sees_the_staged_tree_and_changes_nothing) {
  Mounted m;
  Process installer, viewer, other;
  REQUIRE(m.begin(1, installer.pid) == 0);
  CHECK_EQ(m.unlink(kRootIno, "version", installer.pid), 0);
  const uint64_t staged = m.create(kRootIno, "version", installer.pid).as<fuse_entry_out>().nodeid;
  CHECK_EQ(m.write(staged, "1", installer.pid).error, 0);
  const uint64_t package = m.walk("pkg", installer.pid);
  CHECK_EQ(m.create(package, "new.py", installer.pid).error, 0);
  installer.end();
  CHECK_EQ(m.overlay->freezeTransaction(1), 0);
  CHECK_EQ(m.overlay->observe({true, 9}, viewer.pid), ENOENT);
  CHECK_EQ(m.overlay->observe({true, 1}, viewer.pid), 0);

  // It is new, and the installer has ended: anybody else would wait for the decision.
  CHECK_EQ(m.readPath("version", viewer.pid), "1");
  const auto names = m.list(kRootIno, true, 4096, viewer.pid);
  CHECK_EQ(names.size(), 7u);
  CHECK(m.walk("pkg/new.py", viewer.pid) != 0);
  CHECK_EQ(m.overlay->parkedCount(), 0u);

  // Neither by names, nor in the transaction's own nodes, nor by bytecode; nobody is asked.
  CHECK_EQ(m.unlink(kRootIno, "version", viewer.pid), -EROFS);
  CHECK_EQ(m.create(kRootIno, "x", viewer.pid).error, -EROFS);
  CHECK_EQ(m.mkdir(package, "__pycache__", viewer.pid).error, -EROFS);
  CHECK_EQ(m.write(staged, "2", viewer.pid).error, -EROFS);
  CHECK_EQ(m.writersSeen(), 0u);

  // Who looks on without being an observer still waits, and sees the commit.
  const uint64_t waiting = m.send(FUSE_GETATTR, kRootIno, bytesOf(fuse_getattr_in{}), other.pid);
  REQUIRE(m.waitParked(1));
  m.commit(1, 1);
  const auto found = m.kernel.wait(waiting);
  REQUIRE(found && found->error == 0);
  CHECK_EQ(m.readPath("version", other.pid), "1");
  CHECK_EQ(m.readPath("version", viewer.pid), "1");
}

TEST(an_observer_of_a_generation) {
  Mounted m;
  Process installer, viewer, other;
  m.install(1, 1, installer.pid);
  CHECK_EQ(m.overlay->observe({false, 7}, viewer.pid), ENOENT);
  CHECK_EQ(m.overlay->observe({false, 0}, viewer.pid), 0);
  CHECK_EQ(m.readPath("version", viewer.pid), "0");
  CHECK_EQ(m.readPath("version", other.pid), "1");
  m.listRoot(viewer.pid);
  // It holds no generation: only readers do.
  CHECK(m.overlay->pins().empty());
  const uint64_t package = m.walk("pkg", viewer.pid);
  CHECK_EQ(m.mkdir(package, "__pycache__", viewer.pid).error, -EROFS);
  fuse_setattr_in in{};
  in.valid = FATTR_MODE;
  in.mode = 0600;
  CHECK_EQ(m.ask(FUSE_SETATTR, m.walk("pkg/__init__.py", viewer.pid), bytesOf(in), viewer.pid).error, -EROFS);
  // Through a descriptor, which anybody else might: that would be everybody's at once.
  CHECK_EQ(m.write(m.walk("pkg/__init__.py", viewer.pid), "x", viewer.pid).error, -EROFS);
  CHECK_EQ(m.readPath("pkg/__init__.py", other.pid), "init");
  CHECK_EQ(m.writersSeen(), 0u);
}

TEST(an_observation_ends) {
  Mounted m;
  Process installer, viewer, kept;
  REQUIRE(m.begin(1, installer.pid) == 0);
  CHECK_EQ(m.unlink(kRootIno, "version", installer.pid), 0);
  CHECK_EQ(m.overlay->freezeTransaction(1), 0);
  // Refused: nobody is its member any more, but it can be looked at.
  CHECK_EQ(m.overlay->releaseBarrier(1), 0);
  CHECK_EQ(m.overlay->observe({true, 1}, viewer.pid), 0);
  CHECK_EQ(m.overlay->observe({true, 1}, kept.pid), 0);
  CHECK_EQ(m.readPath("version", viewer.pid), "<nothing>");
  CHECK_EQ(m.readPath("version", kept.pid), "<nothing>");
  CHECK_EQ(m.readPath("version", installer.pid), "0");
  const int ended = viewer.pid;
  viewer.end();
  CHECK_EQ(m.overlay->observe({true, 1}, ended), ESRCH);
  // The transaction is dropped while somebody looks at it.
  CHECK_EQ(m.overlay->abortTransaction(1), 0);
  CHECK(waitForText(m, "version", "0", kept.pid));
  // With the last observer gone root names are kept again, for ever.
  kept.end();
  m.dropNotifications();
  for (int i = 0; i < 5000 && m.lookup(kRootIno, "version").entry_valid == 0; ++i) std::this_thread::sleep_for(1ms);
  CHECK(m.lookup(kRootIno, "version").entry_valid != 0);
}

}  // namespace
}  // namespace siteswap::test
