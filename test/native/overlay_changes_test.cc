// Changes of a file: whose they are when it is reached by a descriptor, and what they cost.
#include "check.h"
#include "overlay_mounted.h"

using namespace siteswap::test;

TEST(attributes_through_a_committed_node_are_the_transactions) {
  Mounted m;
  Process writer, reader;
  const uint64_t file = m.walk("pkg/__init__.py");
  const fuse_attr before = m.getattr(file).attr;
  fuse_setattr_in mode{};
  mode.valid = FATTR_MODE, mode.mode = 0600;
  const uint64_t unique = m.send(FUSE_SETATTR, file, bytesOf(mode), writer.pid);
  const auto asked = m.nextWriter();
  REQUIRE(asked.has_value());
  REQUIRE(m.begin(1, writer.pid) == 0);
  m.overlay->decide(asked->request, Verdict::kRetry, 0);
  // A descriptor can't be walked to again: it is done at once, and what the kernel has of the committed file stays
  // true.
  const auto reply = m.kernel.wait(unique);
  REQUIRE(reply.has_value() && reply->error == 0);
  CHECK_EQ(reply->as<fuse_attr_out>().attr.mode, before.mode);
  CHECK_EQ(reply->as<fuse_attr_out>().attr.ctime, before.ctime);
  CHECK_EQ(m.getattr(file).attr.mode, before.mode);
  CHECK_EQ(m.getattr(m.walk("pkg/__init__.py", reader.pid)).attr.mode, before.mode);
  const uint64_t own = m.walk("pkg/__init__.py", writer.pid);
  CHECK_EQ(m.getattr(own).attr.mode & 07777, 0600u);
  // A later one: what the kernel may know of the transaction's own file is void.
  m.dropNotifications();
  mode.mode = 0640;
  CHECK_EQ(m.ask(FUSE_SETATTR, file, bytesOf(mode), writer.pid).error, 0);
  const auto told = m.kernel.waitNotification(5000);
  REQUIRE(told.has_value() && told->error == kNotifyInvalInode);
  CHECK_EQ(told->as<fuse_notify_inval_inode_out>().ino, own);
  CHECK_EQ(m.getattr(own).attr.mode & 07777, 0640u);
  const uint32_t sizeAndFlags[2] = {3, 0};
  CHECK_EQ(m.ask(FUSE_SETXATTR, file, bytesOf(sizeAndFlags, "user.a\0abc"s), writer.pid).error, 0);
  CHECK_EQ(m.text(m.ask(FUSE_GETXATTR, own, bytesOf(fuse_getxattr_in{9, 0}, "user.a\0"s))), "abc");
  CHECK_EQ(m.ask(FUSE_GETXATTR, file, bytesOf(fuse_getxattr_in{9, 0}, "user.a\0"s)).error, -ENODATA);
  // Another file stands there now.
  const uint64_t pkg = m.walk("pkg", writer.pid);
  CHECK_EQ(m.unlink(pkg, "__init__.py", writer.pid), 0);
  CHECK_EQ(m.create(pkg, "__init__.py", writer.pid).error, 0);
  CHECK_EQ(m.ask(FUSE_SETATTR, file, bytesOf(mode), writer.pid).error, -ESTALE);
  CHECK_EQ(m.writersSeen(), 1u);
}

TEST(truncating_what_has_no_bytes_makes_no_body) {
  Mounted m;
  Process member;
  REQUIRE(m.begin(1, member.pid) == 0);
  const uint64_t file = m.create(kRootIno, "new", member.pid).as<fuse_entry_out>().nodeid;
  const auto bodies = [&] {
    size_t count = 0;
    for ([[maybe_unused]] const auto& body : std::filesystem::directory_iterator(m.dir / "txn1/bodies")) ++count;
    return count;
  };
  fuse_setattr_in size{};
  size.valid = FATTR_SIZE;
  const Reply empty = m.ask(FUSE_SETATTR, file, bytesOf(size), member.pid);
  CHECK_EQ(empty.error, 0);
  CHECK_EQ(empty.as<fuse_attr_out>().attr.size, 0u);
  CHECK_EQ(bodies(), 0u);
  CHECK_EQ(m.write(file, "bytes", member.pid).error, 0);
  CHECK_EQ(bodies(), 1u);
  // Its bytes are gone whatever its times were set to in between.
  fuse_setattr_in times{};
  times.valid = FATTR_MTIME;
  CHECK_EQ(m.ask(FUSE_SETATTR, file, bytesOf(times), member.pid).error, 0);
  CHECK_EQ(m.ask(FUSE_SETATTR, file, bytesOf(size), member.pid).error, 0);
  CHECK_EQ(m.read(file, member.pid), "");
  size.size = 3;
  CHECK_EQ(m.ask(FUSE_SETATTR, file, bytesOf(size), member.pid).error, 0);
  CHECK(m.read(file, member.pid) == std::string(3, '\0'));
}

// The kernel has checked the owner and the mode of the file that was named, not of the one that changes.
TEST(attributes_are_not_changed_through_a_file_of_another_owner) {
  Mounted m;
  Process member;
  REQUIRE(m.begin(1, member.pid) == 0);
  const uint64_t file = m.walk("pkg/__init__.py");
  const uint64_t own = m.walk("pkg/__init__.py", member.pid);
  fuse_setattr_in owner{};
  owner.valid = FATTR_UID, owner.uid = 4321;
  CHECK_EQ(m.ask(FUSE_SETATTR, own, bytesOf(owner), member.pid).error, 0);
  fuse_setattr_in mode{};
  mode.valid = FATTR_MODE, mode.mode = 04755;
  CHECK_EQ(m.ask(FUSE_SETATTR, file, bytesOf(mode), member.pid).error, -ESTALE);
  const uint32_t sizeAndFlags[2] = {3, 0};
  CHECK_EQ(m.ask(FUSE_SETXATTR, file, bytesOf(sizeAndFlags, "user.a\0abc"s), member.pid).error, -ESTALE);
  CHECK_EQ(m.ask(FUSE_REMOVEXATTR, file, bytesOf("user.a\0"s), member.pid).error, -ENODATA);
  CHECK_EQ(m.getattr(own).attr.mode & 07777, 0644u);
}

TEST(a_file_of_which_only_attributes_change_keeps_what_was_written_in_place) {
  Mounted m;
  Process member, reader;
  const uint64_t file = m.walk("pkg/__init__.py");
  REQUIRE(m.begin(1, member.pid) == 0);
  // As by one descriptor: its mode, then its bytes. The bytes are everybody's at once.
  fuse_setattr_in mode{};
  mode.valid = FATTR_MODE, mode.mode = 0600;
  CHECK_EQ(m.ask(FUSE_SETATTR, file, bytesOf(mode), member.pid).error, 0);
  CHECK_EQ(m.write(file, "NEWER", member.pid).error, 0);
  CHECK_EQ(m.readPath("pkg/__init__.py", reader.pid), "NEWER");
  // Another that was written before.
  const uint64_t deep = m.walk("pkg/sub/deep.py");
  CHECK_EQ(m.write(deep, "D", reader.pid).error, 0);
  fuse_setattr_in times{};
  times.valid = FATTR_MTIME, times.mtime = 77;
  CHECK_EQ(m.ask(FUSE_SETATTR, m.walk("pkg/sub/deep.py", member.pid), bytesOf(times), member.pid).error, 0);
  m.commit(1, 1);
  Process later;
  const fuse_attr committed = m.getattr(m.walk("pkg/__init__.py", later.pid)).attr;
  CHECK_EQ(committed.mode & 07777, 0600u);
  CHECK_EQ(committed.size, 5u);
  CHECK(committed.mtime > 77);
  CHECK_EQ(m.readPath("pkg/__init__.py", later.pid), "NEWER");
  CHECK_EQ(m.readPath("pkg/sub/deep.py", later.pid), "Deep");
  CHECK_EQ(m.getattr(m.walk("pkg/sub/deep.py", later.pid)).attr.mtime, 77u);
}

TEST(who_writes_in_place_without_the_right_to_takes_set_id_bits_away) {
  for (const bool inTransaction : {false, true}) {
    for (const bool truncates : {false, true}) {
      Mounted m;
      Process installer, writer;
      REQUIRE(m.begin(1, installer.pid) == 0);
      fuse_setattr_in mode{};
      mode.valid = FATTR_MODE, mode.mode = 06775;
      CHECK_EQ(m.ask(FUSE_SETATTR, m.walk("pkg/__init__.py", installer.pid), bytesOf(mode), installer.pid).error, 0);
      m.commit(1, 1);
      if (inTransaction) REQUIRE(m.begin(2, writer.pid) == 0);
      const uint64_t file = m.walk("pkg/__init__.py", writer.pid);
      CHECK_EQ(m.getattr(file).attr.mode & 07777, 06775u);
      // Who has CAP_FSETID, says the kernel with this request, keeps them.
      CHECK_EQ(m.write(file, "R", writer.pid).error, 0);
      CHECK_EQ(m.getattr(file).attr.mode & 07777, 06775u);
      m.dropNotifications();
      if (truncates) {
        fuse_setattr_in size{};
        size.valid = FATTR_SIZE | FATTR_FH | FATTR_KILL_SUIDGID, size.size = 1;
        CHECK_EQ(m.ask(FUSE_SETATTR, file, bytesOf(size), writer.pid).error, 0);
      } else {
        fuse_write_in in{};
        in.size = 1;
        in.write_flags = FUSE_WRITE_KILL_SUIDGID;
        CHECK_EQ(m.ask(FUSE_WRITE, file, bytesOf(in, "w"s), writer.pid).error, 0);
      }
      CHECK_EQ(m.getattr(file).attr.mode & 07777, 0775u);
      const auto told = m.kernel.waitNotification();
      REQUIRE(told.has_value());
      CHECK_EQ(told->error, kNotifyInvalInode);
      CHECK_EQ(told->as<fuse_notify_inval_inode_out>().ino, file);
    }
  }
}
