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
