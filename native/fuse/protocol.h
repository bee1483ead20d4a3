// The FUSE wire protocol: the system's <linux/fuse.h> plus what newer kernels added, so that the addon builds with
// the headers of any distribution since Linux 5.14 and still uses what a newer kernel offers at run time.
//
// Opcodes and notification codes are enumerators in the header and can't be tested for by the preprocessor: the newer
// ones have names of our own here. Flags are macros there, and are completed under their own names.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

static_assert(FUSE_KERNEL_VERSION == 7 && FUSE_KERNEL_MINOR_VERSION >= 33,
              "linux/fuse.h is too old: install the kernel headers (linux-libc-dev) of Linux 5.14 or newer");

#ifndef FUSE_EXPIRE_ONLY
#define FUSE_EXPIRE_ONLY (1 << 0)
#endif
#ifndef FUSE_INIT_EXT
#define FUSE_INIT_EXT (1 << 30)
#endif
#ifndef FATTR_KILL_SUIDGID
#define FATTR_KILL_SUIDGID (1 << 11)
#endif
#ifndef FUSE_WRITE_KILL_SUIDGID
#define FUSE_WRITE_KILL_SUIDGID (1 << 2)
#endif
#ifndef FUSE_OPEN_KILL_SUIDGID
#define FUSE_OPEN_KILL_SUIDGID (1 << 0)
#endif
#ifndef FOPEN_NOFLUSH
#define FOPEN_NOFLUSH (1 << 5)
#endif
#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif
#ifndef FUSE_HAS_RESEND
#define FUSE_HAS_RESEND (1ULL << 39)
#endif

namespace siteswap::fuse {

// What we speak: 7.45 is Linux 6.18. The oldest kernel that we serve is 5.4's 7.31.
constexpr uint32_t kProtocolMajor = 7;
constexpr uint32_t kProtocolMinor = 45;
constexpr uint32_t kOldestMinor = 31;
constexpr uint32_t kMinorWithResend = 40;    // Linux 6.9
constexpr uint32_t kMinorWithIncEpoch = 44;  // Linux 6.16; it has no INIT flag

// Opcodes that <linux/fuse.h> of 7.33 lacks.
constexpr uint32_t kOpSyncfs = 50;
constexpr uint32_t kOpTmpfile = 51;
constexpr uint32_t kOpStatx = 52;
constexpr uint32_t kOpCopyFileRange64 = 53;

// Notification codes: fuse_out_header.error of a message whose unique is 0.
constexpr int32_t kNotifyInvalInode = FUSE_NOTIFY_INVAL_INODE;
constexpr int32_t kNotifyInvalEntry = FUSE_NOTIFY_INVAL_ENTRY;
constexpr int32_t kNotifyResend = 7;
constexpr int32_t kNotifyIncEpoch = 8;

// A request that the kernel sends again after kNotifyResend has this bit in its unique; the answer keeps it.
constexpr uint64_t kResentBit = 1ULL << 63;

// The root directory's node, in every FUSE filesystem.
constexpr uint64_t kRootNodeId = FUSE_ROOT_ID;

// INIT with flags2 (7.36). Older kernels send the first 16 bytes of it.
struct InitIn {
  uint32_t major, minor, maxReadahead, flags, flags2, unused[11];
};
struct InitOut {
  uint32_t major, minor, maxReadahead, flags;
  uint16_t maxBackground, congestionThreshold;
  uint32_t maxWrite, timeGran;
  uint16_t maxPages, mapAlignment;
  uint32_t flags2, unused[7];
};
static_assert(sizeof(InitIn) == 64 && sizeof(InitOut) == 64);
constexpr size_t kInitInOldSize = 16;

// FUSE_NOTIFY_INVAL_ENTRY with its flags (7.38).
struct NotifyInvalEntryOut {
  uint64_t parent;
  uint32_t nameLength, flags;
};
static_assert(sizeof(NotifyInvalEntryOut) == 16);

// No READ, READDIR or WRITE is larger. One request is the read buffer: this plus a page for the header.
constexpr uint32_t kMaxTransferBytes = 1 << 20;

}  // namespace siteswap::fuse
