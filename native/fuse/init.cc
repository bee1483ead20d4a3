#include "fuse/init.h"

#include <unistd.h>

#include <algorithm>

namespace siteswap::fuse {
namespace {

// Asked for whenever the kernel offers them. Left out on purpose:
// - ATOMIC_O_TRUNC: together with NO_OPEN it loses truncations; without it the kernel sends SETATTR(size=0).
// - WRITEBACK_CACHE: a commit must see every byte that was written.
// - AUTO_INVAL_DATA: new content has a new inode number, so pages never go stale; EXPLICIT_INVAL_DATA says so.
// - SETXATTR_EXT, DONT_MASK, locks, POSIX_ACL, SECURITY_CTX: nothing here needs them.
constexpr uint64_t kAlways = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
                             FUSE_CACHE_SYMLINKS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_EXPLICIT_INVAL_DATA |
                             FUSE_ABORT_ERROR | FUSE_INIT_EXT;
constexpr uint64_t kReaddirplus = FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO;

// Without MAX_PAGES a request has at most 32 pages.
constexpr uint32_t kOldMaxPages = 32;
// Background requests are readahead: enough for every reader of an import storm, throttled a little before the limit.
constexpr uint16_t kMaxBackground = 64;
constexpr uint16_t kCongestionThreshold = 48;

std::string version(uint32_t major, uint32_t minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}

}  // namespace

InitOutcome negotiate(const InitIn& in, const SessionOptions& options) {
  InitOutcome outcome{};
  InitOut& reply = outcome.reply;
  reply.major = kProtocolMajor;
  reply.minor = kProtocolMinor;
  if (in.major > kProtocolMajor) {
    outcome.kind = InitOutcome::Kind::kAgain;
    return outcome;
  }
  if (in.major < kProtocolMajor || in.minor < kOldestMinor) {
    outcome.kind = InitOutcome::Kind::kFailed;
    outcome.error = "the kernel's FUSE protocol is " + version(in.major, in.minor) + ", " +
                    version(kProtocolMajor, kOldestMinor) + " (Linux 5.4) is the oldest that works";
    return outcome;
  }

  const uint64_t offered = in.flags | (in.flags & FUSE_INIT_EXT ? static_cast<uint64_t>(in.flags2) << 32 : 0);
  uint64_t wanted = kAlways;
  if (!options.disableNoOpen) wanted |= FUSE_NO_OPEN_SUPPORT;
  if (!options.disableReaddirplus) wanted |= kReaddirplus;
  if (!options.disableResend) wanted |= FUSE_HAS_RESEND;
  const uint64_t flags = offered & wanted;

  const auto pageBytes = static_cast<uint32_t>(sysconf(_SC_PAGESIZE));
  const uint32_t maxPages = flags & FUSE_MAX_PAGES ? std::max(1u, kMaxTransferBytes / pageBytes) : kOldMaxPages;
  reply.minor = std::min(in.minor, kProtocolMinor);
  reply.maxReadahead = in.maxReadahead;
  reply.flags = static_cast<uint32_t>(flags);
  reply.flags2 = static_cast<uint32_t>(flags >> 32);
  reply.maxBackground = kMaxBackground;
  reply.congestionThreshold = kCongestionThreshold;
  reply.maxWrite = std::min(kMaxTransferBytes, maxPages * pageBytes);
  reply.timeGran = 1;
  if (flags & FUSE_MAX_PAGES) reply.maxPages = static_cast<uint16_t>(maxPages);

  Negotiated& negotiated = outcome.negotiated;
  negotiated.minor = in.minor;
  negotiated.flags = flags;
  negotiated.maxWrite = reply.maxWrite;
  negotiated.noOpen = (flags & FUSE_NO_OPEN_SUPPORT) != 0;
  negotiated.readdirplus = (flags & FUSE_DO_READDIRPLUS) != 0;
  negotiated.epoch = in.minor >= kMinorWithIncEpoch && !options.disableEpoch;
  negotiated.resend = (flags & FUSE_HAS_RESEND) != 0;
  outcome.kind = InitOutcome::Kind::kReady;
  return outcome;
}

Negotiated resumeNegotiated(const SessionOptions& options) {
  Negotiated negotiated;
  negotiated.minor = options.resumedMinor;
  negotiated.maxWrite = kMaxTransferBytes;
  negotiated.noOpen = !options.disableNoOpen;
  negotiated.readdirplus = !options.disableReaddirplus;
  negotiated.epoch = options.resumedMinor >= kMinorWithIncEpoch && !options.disableEpoch;
  negotiated.resend = options.resumedMinor >= kMinorWithResend && !options.disableResend;
  return negotiated;
}

}  // namespace siteswap::fuse
