// The live layer behind a session: what is written outside transactions.
#include "check.h"
#include "overlay_live_fixture.h"

using namespace siteswap::test;

namespace {

size_t bodiesIn(Mounted& m) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(m.dir / "live/bodies"), {}));
}

bool soonBodies(Mounted& m, size_t count) {
  for (int i = 0; i < 5000 && bodiesIn(m) != count; ++i) std::this_thread::sleep_for(1ms);
  return bodiesIn(m) == count;
}

}  // namespace

TEST(a_live_file_that_is_replaced_or_removed_goes_on_for_who_has_it_open) {
  Mounted m;
  Process writer;
  const uint64_t cache = makeCache(m, writer);
  REQUIRE(cache != 0);
  const uint64_t old = makeBytecode(m, cache, "mod.pyc", "old", writer);
  const uint64_t fresh = makeBytecode(m, cache, "mod.pyc.1", "fresh", writer);
  CHECK_EQ(m.lookup(cache, "mod.pyc").nodeid, old);  // a second reference
  CHECK_EQ(renameIn(m, cache, "mod.pyc.1", "mod.pyc", writer), 0);
  CHECK_EQ(m.lookup(cache, "mod.pyc").nodeid, fresh);
  CHECK_EQ(m.read(fresh), "fresh");
  CHECK_EQ(m.read(old), "old");
  CHECK_EQ(m.getattr(old).attr.nlink, 0u);
  CHECK_EQ(m.write(old, "OLD!", writer.pid).error, 0);
  CHECK_EQ(m.read(old), "OLD!");
  CHECK_EQ(m.list(cache, true, 4096).size(), 3u);
  CHECK_EQ(bodiesIn(m), 2u);
  // Until the kernel has forgotten it as often as it was told of it.
  m.kernel.send(FUSE_FORGET, old, bytesOf(fuse_forget_in{1}));
  CHECK_EQ(m.read(old), "OLD!");
  m.kernel.send(FUSE_FORGET, old, bytesOf(fuse_forget_in{1}));
  CHECK_EQ(m.readReply(old, 0, 10).error, -ESTALE);
  CHECK(soonBodies(m, 1));
  CHECK_EQ(m.unlink(cache, "mod.pyc", writer.pid), 0);
  CHECK_EQ(m.lookup(cache, "mod.pyc").nodeid, 0u);
  CHECK_EQ(m.read(fresh), "fresh");
  // CREATE, two LOOKUPs, and READDIRPLUS.
  m.kernel.send(FUSE_FORGET, fresh, bytesOf(fuse_forget_in{2}));
  CHECK_EQ(m.read(fresh), "fresh");
  m.kernel.send(FUSE_BATCH_FORGET, 0, bytesOf(fuse_batch_forget_in{1, 0}, fuse_forget_one{fresh, 1}));
  CHECK_EQ(m.readReply(fresh, 0, 10).error, -ESTALE);
  CHECK(soonBodies(m, 0));
  // A name that is there is not forgotten.
  const uint64_t last = makeBytecode(m, cache, "mod.pyc", "last", writer);
  m.kernel.send(FUSE_FORGET, last, bytesOf(fuse_forget_in{1}));
  CHECK_EQ(m.read(last), "last");
  CHECK_EQ(m.lookup(cache, "mod.pyc").nodeid, last);
}

TEST(a_live_directory_that_is_removed_is_empty_for_who_stands_in_it) {
  Mounted m;
  Process writer;
  const uint64_t cache = makeCache(m, writer);
  REQUIRE(cache != 0);
  CHECK_EQ(m.ask(FUSE_RMDIR, m.walk("pkg"), bytesOf("__pycache__\0"s), writer.pid).error, 0);
  CHECK_EQ(m.walk("pkg/__pycache__"), 0u);
  CHECK_EQ(m.getattr(cache).attr.nlink, 0u);
  CHECK_EQ(m.list(cache, false, 4096).size(), 2u);
  CHECK_EQ(m.create(cache, "mod.pyc", writer.pid).error, -ENOENT);
  m.kernel.send(FUSE_FORGET, cache, bytesOf(fuse_forget_in{1}));
  CHECK_EQ(m.ask(FUSE_GETATTR, cache, bytesOf(fuse_getattr_in{})).error, -ESTALE);
}

TEST(a_new_server_drops_what_has_no_name) {
  Mounted m;
  Process writer;
  const uint64_t cache = makeCache(m, writer);
  REQUIRE(cache != 0);
  makeBytecode(m, cache, "mod.pyc", "bytes", writer);
  makeBytecode(m, cache, "other.pyc", "bytes", writer);
  CHECK_EQ(m.unlink(cache, "mod.pyc", writer.pid), 0);
  CHECK_EQ(bodiesIn(m), 2u);
  m.overlay->shutDown();
  m.session->stop();
  LiveLayer live;
  InoSource numbers(uint64_t{9} << 32, 1 << 20);
  CHECK_EQ(live.open(m.dir / "live", &numbers, [](uint64_t) { return true; }), 0);
  CHECK_EQ(bodiesIn(m), 1u);
  CHECK(live.child(cache, "other.pyc").has_value());
}

TEST(a_member_meets_bytecode_and_copies_what_it_changes) {
  Mounted m;
  Process writer, member;
  const uint64_t cache = makeCache(m, writer);
  REQUIRE(cache != 0);
  const uint64_t a = makeBytecode(m, cache, "a.pyc", "bytes of a", writer);
  const uint64_t b = makeBytecode(m, cache, "b.pyc", "bytes of b", writer);
  makeBytecode(m, cache, "c.pyc", "bytes of c", writer);
  makeBytecode(m, cache, "d.pyc", "bytes of d", writer);
  CHECK_EQ(m.create(cache, "empty.pyc", writer.pid).error, 0);  // no use to anybody
  REQUIRE(m.begin(1, member.pid) == 0);
  const auto bodies = [&] {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(m.dir / "txn1/bodies"), {}));
  };
  const uint64_t own = m.walk("pkg/__pycache__", member.pid);
  REQUIRE(own != 0 && own != cache);
  CHECK_EQ(m.list(own, true, 4096, member.pid).size(), 6u);
  const uint64_t ownA = m.lookup(own, "a.pyc", member.pid).nodeid;
  const uint64_t ownB = m.lookup(own, "b.pyc", member.pid).nodeid;
  CHECK(ownA != a && ownB != b);
  CHECK_EQ(m.read(ownA, member.pid), "bytes of a");
  // No request waited for copies.
  CHECK_EQ(bodies(), 0u);
  CHECK_EQ(m.write(ownA, "BYTES", member.pid).error, 0);
  CHECK_EQ(m.read(ownA, member.pid), "BYTES of a");
  CHECK_EQ(m.read(a), "bytes of a");
  fuse_setattr_in mode{};
  mode.valid = FATTR_MODE, mode.mode = 0600;
  CHECK_EQ(m.ask(FUSE_SETATTR, ownB, bytesOf(mode), member.pid).error, 0);
  CHECK_EQ(bodies(), 2u);
  CHECK_EQ(renameIn(m, own, "c.pyc", "e.pyc", member), 0);
  CHECK_EQ(m.unlink(own, "d.pyc", member.pid), 0);
  // After a restart of the server.
  CHECK_EQ(m.overlay->restoreTransaction(2, m.dir / "txn1"), 0);
  std::string bytes;
  for (const uint64_t id : {1, 2}) {
    CHECK_EQ(m.overlay->pathRead({true, id}, "pkg/__pycache__/a.pyc", bytes), 0);
    CHECK_EQ(bytes, "BYTES of a");
    CHECK_EQ(m.overlay->pathRead({true, id}, "pkg/__pycache__/e.pyc", bytes), 0);
    CHECK_EQ(bytes, "bytes of c");
    CHECK_EQ(m.overlay->pathRead({true, id}, "pkg/__pycache__/d.pyc", bytes), ENOENT);
  }
  CHECK_EQ(m.overlay->abortTransaction(2), 0);
  // What was not changed stays what it is: nobody's but the live layer's.
  m.commit(1, 1);
  CHECK_EQ(m.readPath("pkg/__pycache__/a.pyc"), "BYTES of a");
  CHECK_EQ(m.readPath("pkg/__pycache__/b.pyc"), "bytes of b");
  CHECK_EQ(m.overlay->pathRead({false, 1}, "pkg/__pycache__/e.pyc", bytes), ENOENT);
}

TEST(a_package_with_bytecode_that_was_removed_is_restored) {
  for (const bool isGone : {false, true}) {
    Mounted m;
    Process writer, member;
    const uint64_t cache = makeCache(m, writer);
    REQUIRE(cache != 0);
    makeBytecode(m, cache, "a.pyc", "bytes", writer);
    REQUIRE(m.begin(1, member.pid) == 0);
    const uint64_t package = m.walk("pkg", member.pid), own = m.walk("pkg/__pycache__", member.pid);
    const auto remove = [&](uint64_t parent, const std::string& name) {
      return m.ask(FUSE_RMDIR, parent, bytesOf(name, '\0'), member.pid).error;
    };
    const uint64_t sub = m.walk("pkg/sub", member.pid);
    CHECK_EQ(m.unlink(sub, "deep.py", member.pid), 0);
    CHECK_EQ(m.unlink(own, "a.pyc", member.pid), 0);
    CHECK_EQ(m.unlink(package, "__init__.py", member.pid), 0);
    CHECK_EQ(remove(package, "sub"), 0);
    CHECK_EQ(remove(package, "__pycache__"), 0);
    CHECK_EQ(remove(kRootIno, "pkg"), 0);
    // Whatever is there now: its own journal alone says what was in its directories.
    if (isGone) CHECK_EQ(m.unlink(cache, "a.pyc", writer.pid), 0);
    CHECK_EQ(m.overlay->restoreTransaction(2, m.dir / "txn1"), 0);
    Overlay::PathNode found;
    CHECK_EQ(m.overlay->pathStat({true, 2}, "pkg", found), ENOENT);
  }
}

TEST(bytecode_that_goes_while_a_member_knows_it) {
  Mounted m;
  Process writer, member;
  const uint64_t cache = makeCache(m, writer);
  REQUIRE(cache != 0);
  const uint64_t file = makeBytecode(m, cache, "a.pyc", "bytes", writer);
  REQUIRE(m.begin(1, member.pid) == 0);
  const uint64_t own = m.walk("pkg/__pycache__/a.pyc", member.pid);
  REQUIRE(own != 0);
  CHECK_EQ(m.unlink(cache, "a.pyc", writer.pid), 0);
  CHECK_EQ(m.read(own, member.pid), "bytes");
  m.kernel.send(FUSE_FORGET, file, bytesOf(fuse_forget_in{1}));
  CHECK_EQ(m.walk("pkg/__pycache__/a.pyc"), 0u);
  // As if it had been copied at once.
  CHECK_EQ(m.read(own, member.pid), "bytes");
  CHECK_EQ(m.write(own, "B", member.pid).error, 0);
  CHECK_EQ(m.read(own, member.pid), "Bytes");
  CHECK_EQ(bodiesIn(m), 1u);
  CHECK_EQ(m.overlay->abortTransaction(1), 0);
  CHECK(soonBodies(m, 0));
}
