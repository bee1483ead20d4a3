#include "fuse/opcodes.h"

#include <array>
#include <cerrno>

namespace siteswap::fuse {
namespace {

// Argument of an operation: its struct, or none.
struct None {};
template <class T>
constexpr uint16_t kSizeOf = sizeof(T);
template <>
constexpr uint16_t kSizeOf<None> = 0;

constexpr bool kPayload = true;

template <class T>
constexpr OpcodeRow served(uint32_t opcode, const char* name, int names, void (Operations::*method)(RequestPtr),
                           bool payload = false) {
  return {opcode,  name, kSizeOf<T>,           kSizeOf<T>, static_cast<uint8_t>(names),
          payload, true, Handling::kOperation, 0,          method};
}

// The wire carries only the first `Wire` bytes of T: an older form of the operation, shown to handlers as the newer.
template <class T, class Wire>
constexpr OpcodeRow extended(OpcodeRow row) {
  row.structBytes = kSizeOf<T>;
  row.wireBytes = kSizeOf<Wire>;
  return row;
}

constexpr OpcodeRow silent(OpcodeRow row) {
  row.replies = false;
  return row;
}

// Never served. For most of these one ENOSYS makes the kernel stop asking for the life of the connection.
constexpr OpcodeRow refused(uint32_t opcode, const char* name, int error = ENOSYS) {
  return {opcode, name, 0, 0, 0, true, true, Handling::kErrno, error, nullptr};
}

template <class T>
constexpr OpcodeRow own(uint32_t opcode, const char* name, bool replies) {
  return {opcode, name, kSizeOf<T>, kSizeOf<T>, 0, true, replies, Handling::kSession, 0, nullptr};
}

struct InitInOld {
  uint32_t major, minor, maxReadahead, flags;
};
static_assert(sizeof(InitInOld) == kInitInOldSize);

// SETXATTR's longer argument comes only after FUSE_SETXATTR_EXT, which we don't ask for.
struct SetxattrInShort {
  uint32_t size, flags;
};

using Op = Operations;

constexpr OpcodeRow kTable[] = {
    served<None>(FUSE_LOOKUP, "LOOKUP", 1, &Op::lookup),
    silent(served<fuse_forget_in>(FUSE_FORGET, "FORGET", 0, &Op::forget)),
    served<fuse_getattr_in>(FUSE_GETATTR, "GETATTR", 0, &Op::getattr),
    served<fuse_setattr_in>(FUSE_SETATTR, "SETATTR", 0, &Op::setattr),
    served<None>(FUSE_READLINK, "READLINK", 0, &Op::readlink),
    served<None>(FUSE_SYMLINK, "SYMLINK", 2, &Op::symlink),
    served<fuse_mknod_in>(FUSE_MKNOD, "MKNOD", 1, &Op::mknod),
    served<fuse_mkdir_in>(FUSE_MKDIR, "MKDIR", 1, &Op::mkdir),
    served<None>(FUSE_UNLINK, "UNLINK", 1, &Op::unlink),
    served<None>(FUSE_RMDIR, "RMDIR", 1, &Op::rmdir),
    extended<fuse_rename2_in, fuse_rename_in>(served<None>(FUSE_RENAME, "RENAME", 2, &Op::rename)),
    served<fuse_link_in>(FUSE_LINK, "LINK", 1, &Op::link),
    served<fuse_open_in>(FUSE_OPEN, "OPEN", 0, &Op::open),
    served<fuse_read_in>(FUSE_READ, "READ", 0, &Op::read),
    served<fuse_write_in>(FUSE_WRITE, "WRITE", 0, &Op::write, kPayload),
    served<None>(FUSE_STATFS, "STATFS", 0, &Op::statfs),
    served<fuse_release_in>(FUSE_RELEASE, "RELEASE", 0, &Op::release),
    served<fuse_fsync_in>(FUSE_FSYNC, "FSYNC", 0, &Op::fsync),
    extended<fuse_setxattr_in, SetxattrInShort>(served<None>(FUSE_SETXATTR, "SETXATTR", 1, &Op::setxattr, kPayload)),
    served<fuse_getxattr_in>(FUSE_GETXATTR, "GETXATTR", 1, &Op::getxattr),
    served<fuse_getxattr_in>(FUSE_LISTXATTR, "LISTXATTR", 0, &Op::listxattr),
    served<None>(FUSE_REMOVEXATTR, "REMOVEXATTR", 1, &Op::removexattr),
    served<fuse_flush_in>(FUSE_FLUSH, "FLUSH", 0, &Op::flush),
    own<InitInOld>(FUSE_INIT, "INIT", true),
    // Directories have no handles: see overlay/listing.cc.
    refused(FUSE_OPENDIR, "OPENDIR"),
    served<fuse_read_in>(FUSE_READDIR, "READDIR", 0, &Op::readdir),
    refused(FUSE_RELEASEDIR, "RELEASEDIR"),
    served<fuse_fsync_in>(FUSE_FSYNCDIR, "FSYNCDIR", 0, &Op::fsyncdir),
    refused(FUSE_GETLK, "GETLK"),
    refused(FUSE_SETLK, "SETLK"),
    refused(FUSE_SETLKW, "SETLKW"),
    refused(FUSE_ACCESS, "ACCESS"),
    served<fuse_create_in>(FUSE_CREATE, "CREATE", 1, &Op::create),
    own<fuse_interrupt_in>(FUSE_INTERRUPT, "INTERRUPT", false),
    refused(FUSE_BMAP, "BMAP"),
    own<None>(FUSE_DESTROY, "DESTROY", true),
    // CPython before 3.14 asks isatty() of each file it opens, and nothing turns that off.
    refused(FUSE_IOCTL, "IOCTL", ENOTTY),
    refused(FUSE_POLL, "POLL"),
    silent(refused(FUSE_NOTIFY_REPLY, "NOTIFY_REPLY")),
    silent(served<fuse_batch_forget_in>(FUSE_BATCH_FORGET, "BATCH_FORGET", 0, &Op::batchForget, kPayload)),
    served<fuse_fallocate_in>(FUSE_FALLOCATE, "FALLOCATE", 0, &Op::fallocate),
    served<fuse_read_in>(FUSE_READDIRPLUS, "READDIRPLUS", 0, &Op::readdirplus),
    served<fuse_rename2_in>(FUSE_RENAME2, "RENAME2", 2, &Op::rename),
    served<fuse_lseek_in>(FUSE_LSEEK, "LSEEK", 0, &Op::lseek),
    served<fuse_copy_file_range_in>(FUSE_COPY_FILE_RANGE, "COPY_FILE_RANGE", 0, &Op::copyFileRange),
    refused(FUSE_SETUPMAPPING, "SETUPMAPPING"),
    refused(FUSE_REMOVEMAPPING, "REMOVEMAPPING"),
    refused(kOpSyncfs, "SYNCFS"),
    served<fuse_create_in>(kOpTmpfile, "TMPFILE", 1, &Op::tmpfile),
    refused(kOpStatx, "STATX"),
    // ENOSYS makes the kernel ask with COPY_FILE_RANGE instead.
    refused(kOpCopyFileRange64, "COPY_FILE_RANGE_64"),
};

// Opcode -> row, so that the reader finds it with one load.
constexpr std::array<int8_t, kOpcodeLimit> kIndex = [] {
  std::array<int8_t, kOpcodeLimit> index{};
  index.fill(-1);
  for (size_t i = 0; i < std::size(kTable); ++i) index[kTable[i].opcode] = static_cast<int8_t>(i);
  return index;
}();

}  // namespace

const OpcodeRow* findOpcode(uint32_t opcode) {
  if (opcode >= kOpcodeLimit || kIndex[opcode] < 0) return nullptr;
  return &kTable[kIndex[opcode]];
}

std::span<const OpcodeRow> opcodeTable() {
  return kTable;
}

}  // namespace siteswap::fuse
