// What a filesystem implements to be served by a Session: one method per opcode row of opcodes.cc.
// A handler owns the request: it answers it, or keeps it and answers later, or gives it back to
// Session::resubmit() to be dispatched from the start on a pool thread. Handlers run concurrently and must not throw
// (one that does anyway is logged, and its caller gets EIO).
#pragma once

#include "fuse/request.h"

namespace siteswap::fuse {

class Operations {
 public:
  virtual ~Operations() = default;

  virtual void lookup(RequestPtr request) = 0;
  virtual void forget(RequestPtr request) = 0;       // FORGET: fuse_forget_in
  virtual void batchForget(RequestPtr request) = 0;  // fuse_batch_forget_in + fuse_forget_one[]; checked by the table
  virtual void getattr(RequestPtr request) = 0;
  virtual void setattr(RequestPtr request) = 0;
  virtual void readlink(RequestPtr request) = 0;
  virtual void symlink(RequestPtr request) = 0;  // name(0) new name, name(1) target
  virtual void mknod(RequestPtr request) = 0;
  virtual void mkdir(RequestPtr request) = 0;
  virtual void unlink(RequestPtr request) = 0;
  virtual void rmdir(RequestPtr request) = 0;
  virtual void rename(RequestPtr request) = 0;  // RENAME and RENAME2, both with arg<fuse_rename2_in>()
  virtual void link(RequestPtr request) = 0;
  virtual void open(RequestPtr request) = 0;  // only asked when NO_OPEN is off; so is flush
  virtual void read(RequestPtr request) = 0;
  virtual void write(RequestPtr request) = 0;
  virtual void statfs(RequestPtr request) = 0;
  virtual void release(RequestPtr request) = 0;
  virtual void fsync(RequestPtr request) = 0;
  virtual void setxattr(RequestPtr request) = 0;  // payload() is the value
  virtual void getxattr(RequestPtr request) = 0;
  virtual void listxattr(RequestPtr request) = 0;
  virtual void removexattr(RequestPtr request) = 0;
  virtual void flush(RequestPtr request) = 0;
  virtual void readdir(RequestPtr request) = 0;
  virtual void readdirplus(RequestPtr request) = 0;
  virtual void fsyncdir(RequestPtr request) = 0;
  virtual void create(RequestPtr request) = 0;
  virtual void tmpfile(RequestPtr request) = 0;  // fuse_create_in; the name means nothing
  virtual void fallocate(RequestPtr request) = 0;
  virtual void lseek(RequestPtr request) = 0;
  virtual void copyFileRange(RequestPtr request) = 0;

  // A caller that waits for `unique` of this session got a signal. Answer that request EINTR if it is parked; otherwise
  // nothing. (Two sessions' numbers may be the same.)
  virtual void interrupt(Session& session, uint64_t unique) = 0;
};

}  // namespace siteswap::fuse
