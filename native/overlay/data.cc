// File contents: read, write, resize, and what else works on bytes.
#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>

#include "overlay/overlay.h"

namespace siteswap::overlay {

namespace {

// One buffer a thread, grown to the largest read: the kernel asks for 1 MiB at most.
char* readBuffer(size_t sizeBytes) {
  thread_local std::unique_ptr<char[]> buffer;
  thread_local size_t room = 0;
  if (room < sizeBytes) {
    buffer = std::make_unique_for_overwrite<char[]>(sizeBytes);
    room = sizeBytes;
  }
  return buffer.get();
}

}  // namespace

Source Overlay::openForReading(const Target& target, bool cachedOnly) {
  Source source;
  Committed committed = target.committed;
  if (target.kind == Target::kTransaction) {
    const auto place = target.txn->tree->bodyPlace(target.ino);
    source.error = place.error;
    source.size = place.size;
    if (source.error != 0 || source.size == 0) return source;
    if (place.own) {
      source.fd = backing_.openBody(target.txn->tree->bodiesFd(), target.ino, {.cachedOnly = cachedOnly}, source.error);
      return source;
    }
    if (place.liveIno != 0) {
      source.fd =
          backing_.openBody(live_.bodiesFd(), place.liveIno, {.isLive = true, .cachedOnly = cachedOnly}, source.error);
      if (source.error == ENOENT) source.error = ESTALE;
      return source;
    }
    committed = place.base;
  } else if (target.kind == Target::kLive) {
    const auto present = live_.attributes(target.ino);
    if (!present || !S_ISREG(present->mode)) {
      source.error = !present ? ESTALE : EISDIR;
      return source;
    }
    source.size = present->size;
    if (source.size == 0) return source;
    source.fd =
        backing_.openBody(live_.bodiesFd(), target.ino, {.isLive = true, .cachedOnly = cachedOnly}, source.error);
    return source;
  } else if (target.kind == Target::kCommitted) {
    const Entry& e = committed.entry();
    if (!S_ISREG(e.mode)) {
      source.error = S_ISDIR(e.mode) ? EISDIR : EINVAL;
      return source;
    }
    source.size = e.size;
    if (source.size == 0) return source;
  } else {
    source.error = target.kind == Target::kRoot ? EISDIR : ESTALE;
    return source;
  }
  source.isCommitted = true;
  source.fd = backing_.openCommitted(committed, cachedOnly, source.error);
  return source;
}

// What a READ asks for, where reading ahead may pay. Not on another session than the mount's: it may end earlier.
std::optional<ReadAhead::Range> Overlay::rangeAhead(const fuse::Request& request, const Target& target) const {
  if (target.kind != Target::kCommitted || &request.session() != session_) return std::nullopt;
  const Entry& e = target.committed.entry();
  const auto& arg = request.arg<fuse_read_in>();
  if (!S_ISREG(e.mode) || e.size < ReadAhead::kLeastBytes || arg.offset >= e.size) return std::nullopt;
  return ReadAhead::Range{e.ino, arg.offset, std::min<uint64_t>(arg.size, e.size - arg.offset)};
}

void Overlay::read(fuse::RequestPtr request) {
  const auto& arg = request->arg<fuse_read_in>();
  const Target target = resolve(request->nodeid());
  const std::optional<ReadAhead::Range> range = rangeAhead(*request, target);
  if (range && readAhead_.answer(request, *range)) return;
  const bool isSmall =
      target.kind == Target::kCommitted && target.committed.entry().size <= Neighbours::kMostBytes && arg.offset == 0;
  // First what the page cache can answer at once, on this thread; only what has to wait for a disk lets another one
  // read on. What the first round got is kept: it may be in no cache any more.
  size_t done = 0;
  char* const buffer = readBuffer(arg.size);
  for (const bool cachedOnly : {true, false}) {
    if (!cachedOnly) {
      request->resign();
      if (isSmall) neighbours_.note(target.committed);
    }
    const Source source = openForReading(target, cachedOnly);
    if (source.error == EAGAIN && cachedOnly) continue;
    if (source.error != 0) return request->replyError(source.error);
    if (!source.fd || arg.offset >= source.size) return request->replyEmpty();
    // Between the rounds a file of a transaction may get longer, or shorter.
    const size_t wanted = std::min<uint64_t>(arg.size, source.size - arg.offset);
    done = std::min(done, wanted);
    const int error = source.read(buffer, wanted, arg.offset, cachedOnly, done);
    if (range && cachedOnly) readAhead_.note(*range, source, done < wanted);
    if (cachedOnly && done < wanted) continue;
    if (error != 0) return request->replyError(error);
    return request->replyData(buffer, done);
  }
}

int Overlay::copyBody(int bodiesFd, const std::string& temporary, const Committed& base, uint64_t keep) {
  sys::UniqueFd to(::openat(bodiesFd, temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!to) return errno;
  keep = std::min(keep, base.entry().size);
  if (keep == 0) return 0;
  int error = 0;
  const FdPtr from = backing_.openCommitted(base, false, error);
  return from ? copyBytes(from->get(), to.get(), keep) : error;
}

int Overlay::writableBody(const Change_& change, uint64_t keepBytes, FdPtr& fd) {
  int error = 0;
  if (change.tree == nullptr) {
    fd = backing_.openBody(live_.bodiesFd(), change.ino, {.isLive = true, .mayCreate = true}, error);
    return error;
  }
  const int copied = change.tree->copyUp(
      change.ino, keepBytes, [this](int bodiesFd, const std::string& temporary, const Committed& base, uint64_t keep) {
        return copyBody(bodiesFd, temporary, base, keep);
      });
  if (copied != 0) return copied;
  fd = backing_.openBody(change.tree->bodiesFd(), change.ino, {.mayCreate = true}, error);
  return error;
}

int Overlay::noteWritten(const Change_& change, uint64_t end, bool grow) {
  if (change.tree == nullptr) return live_.written(change.ino, end, grow);
  return grow ? change.tree->written(change.ino, end) : change.tree->truncated(change.ino, end);
}

int Overlay::clearSetid(const Change_& change) {
  uint32_t mode = 0;
  if (change.tree != nullptr) {
    mode = change.tree->modeOf(change.ino);
  } else if (const auto present = live_.attributes(change.ino)) {
    mode = present->mode;
  }
  AttributeChange without;
  without.mask = FATTR_MODE;
  without.mode = withoutSetid(mode);
  if (without.mode == mode) return 0;
  if (const auto set = setAttributesIn(change, without); set.error != 0) return set.error;
  // After a write the kernel takes the times for unknown only, and goes on with the mode that it has (exec(2) does).
  session_->notifyInvalInode(change.ino, -1, 0);
  return 0;
}

int Overlay::resize(fuse::Request& request, const Change_& change, uint64_t size) {
  // open(O_TRUNC) of what was just created: no body is made for that, and no disk waited for.
  if (size == 0 && change.tree != nullptr) {
    const auto place = change.tree->bodyPlace(change.ino);
    if (place.error == 0 && place.own && place.size == 0) return noteWritten(change, 0, false);
  }
  request.resign();
  FdPtr fd;
  if (const int e = writableBody(change, size, fd)) return e;
  if (::ftruncate(fd->get(), static_cast<off_t>(size)) != 0) return errno;
  return noteWritten(change, size, false);
}

void Overlay::write(fuse::RequestPtr request) {
  const auto& arg = request->arg<fuse_write_in>();
  request->resign();
  Change_ change;
  if (!enterFile(request, request->nodeid(), Reach::kByDescriptor, change)) return;
  if ((arg.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0) {
    if (const int e = clearSetid(change)) return request->replyError(e);
  }
  FdPtr fd;
  if (const int e = writableBody(change, UINT64_MAX, fd)) return request->replyError(e);
  const auto data = request->payload();
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n =
        ::pwrite(fd->get(), data.data() + done, data.size() - done, static_cast<off_t>(arg.offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && done == 0) return request->replyError(errno);
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  if (const int e = noteWritten(change, arg.offset + done, true)) return request->replyError(e);
  fuse_write_out out{};
  out.size = static_cast<uint32_t>(done);
  request->reply(out);
}

void Overlay::fallocate(fuse::RequestPtr request) {
  const auto& arg = request->arg<fuse_fallocate_in>();
  request->resign();
  Change_ change;
  if (!enterFile(request, request->nodeid(), Reach::kByDescriptor, change)) return;
  if (const int e = clearSetid(change)) return request->replyError(e);
  FdPtr fd;
  if (const int e = writableBody(change, UINT64_MAX, fd)) return request->replyError(e);
  if (::fallocate(fd->get(), static_cast<int>(arg.mode), static_cast<off_t>(arg.offset),
                  static_cast<off_t>(arg.length)) != 0) {
    return request->replyError(errno);
  }
  struct stat st;
  if (::fstat(fd->get(), &st) != 0) return request->replyError(errno);
  if (const int e = noteWritten(change, static_cast<uint64_t>(st.st_size), false)) return request->replyError(e);
  request->replyEmpty();
}

void Overlay::lseek(fuse::RequestPtr request) {
  const auto& arg = request->arg<fuse_lseek_in>();
  request->resign();
  const Source source = openForReading(resolve(request->nodeid()), false);
  if (source.error != 0) return request->replyError(source.error);
  if (arg.offset >= source.size) return request->replyError(ENXIO);
  // All reading is by pread(2): the descriptor's own offset is nobody's.
  const off_t at = ::lseek(source.fd->get(), static_cast<off_t>(arg.offset), static_cast<int>(arg.whence));
  if (at < 0) return request->replyError(errno);
  fuse_lseek_out out{};
  out.offset = std::min<uint64_t>(static_cast<uint64_t>(at), source.size);
  request->reply(out);
}

void Overlay::copyFileRange(fuse::RequestPtr request) {
  const auto& arg = request->arg<fuse_copy_file_range_in>();
  request->resign();
  if (arg.flags != 0) return request->replyError(EINVAL);
  Change_ change;
  if (!enterFile(request, arg.nodeid_out, Reach::kByDescriptor, change)) return;
  const Source source = openForReading(resolve(request->nodeid()), false);
  if (source.error != 0) return request->replyError(source.error);
  fuse_write_out out{};
  if (!source.fd || arg.off_in >= source.size) return request->reply(out);
  if (const int e = clearSetid(change)) return request->replyError(e);
  FdPtr fd;
  if (const int e = writableBody(change, UINT64_MAX, fd)) return request->replyError(e);
  loff_t in = static_cast<loff_t>(arg.off_in), to = static_cast<loff_t>(arg.off_out);
  const size_t wanted = std::min<uint64_t>({arg.len, source.size - arg.off_in, uint64_t{1} << 30});
  const ssize_t n = ::copy_file_range(source.fd->get(), &in, fd->get(), &to, wanted, 0);
  // The kernel then copies with reads and writes.
  if (n < 0) return request->replyError(errno == EXDEV ? EOPNOTSUPP : errno);
  if (n == 0 && wanted > 0 && source.isCommitted) return request->replyError(EIO);  // cut, as in Source::read()
  if (n > 0) {
    if (const int e = noteWritten(change, arg.off_out + static_cast<uint64_t>(n), true)) return request->replyError(e);
  }
  out.size = static_cast<uint32_t>(n);
  request->reply(out);
}

void Overlay::open(fuse::RequestPtr request) {
  if (session_->negotiated().noOpen) return request->replyError(ENOSYS);
  fuse_open_out out{};
  // A number's content changes only through this kernel, which keeps its own pages right.
  out.open_flags = FOPEN_KEEP_CACHE;
  request->reply(out);
}

void Overlay::release(fuse::RequestPtr request) {
  request->replyEmpty();
}
void Overlay::flush(fuse::RequestPtr request) {
  request->replyError(ENOSYS);
}
// What a transaction wrote is made durable as a whole, when it commits; nobody can see it before. What is live never
// is.
void Overlay::fsync(fuse::RequestPtr request) {
  const uint64_t ino = inoOf(request->nodeid());
  if (!live_.has(ino)) return request->replyEmpty();
  request->resign();
  if (const int e = live_.sync(ino)) return request->replyError(e);
  request->replyEmpty();
}

}  // namespace siteswap::overlay
