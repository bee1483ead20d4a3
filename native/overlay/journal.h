// A transaction's journal: every change to its tree, in order, so that a server that starts anew has the same tree.
//
// The file is mapped: appending is a memcpy that survives the death of this process (not a power cut: an uncommitted
// transaction is discarded after one). A record is { u32 size; u32 check; Record fields }; size 0 ends the journal, and
// so does a record whose check does not fit (the process died while writing it).
// Called by Transaction, under its lock.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "sys/unique_fd.h"

namespace siteswap::overlay {

enum class RecordType : uint8_t {
  kBegin = 1,      // generation: the base
  kMaterialise,    // ino, parent, name, generation+index: an entry of the base got a number of this transaction
  kCreate,         // ino, parent, name, mode, uid, gid, rdev, timeNs, text = target; parent 0: without a name;
                   // with kFromLive parent2: the file of the live layer that has its bytes (0: they are in the upper)
  kUnlink,         // parent, name, timeNs
  kRename,         // parent, name, parent2, name2, flags, timeNs
  kLink,           // ino, parent, name, timeNs
  kSetAttributes,  // ino, mask, mode, uid, gid, atimeNs, mtimeNs, timeNs (= ctime)
  kOwnBody,        // ino: its bytes are in the upper from now on
  kWritten,        // ino: the body's own mtime is the file's from now on
  kSetXattr,       // ino, name, text = value, timeNs
  kRemoveXattr,    // ino, name, timeNs
};

inline constexpr uint32_t kFromLive = 1;  // in `flags` of a transaction's kCreate: see Transaction::bringLive()

struct Record {
  RecordType type{};
  uint32_t mode = 0, uid = 0, gid = 0, rdev = 0, flags = 0, mask = 0, index = 0;
  uint64_t ino = 0, parent = 0, parent2 = 0, generation = 0;
  int64_t timeNs = 0, atimeNs = 0, mtimeNs = 0;
  std::string name, name2, text;
};

class Journal {
 public:
  ~Journal();
  Journal() = default;
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // Creates the file. 0 or a positive errno.
  int create(const std::string& path);
  // Opens an existing one, gives each whole record to `each` in order; appending goes on behind the last.
  int replay(const std::string& path, const std::function<void(const Record&)>& each);
  // 0, or ENOSPC and the like: then nothing was written and the change must not happen.
  int append(const Record& record);
  // What was appended survives a power cut when this has returned. 0 or a positive errno.
  int sync();

 private:
  int mapUpTo(size_t sizeBytes);

  sys::UniqueFd fd_;
  char* map_ = nullptr;
  size_t mapSize_ = 0;
  size_t used_ = 0;
};

// The base's generation of the transaction with this journal. 0 or a positive errno.
int readBaseGeneration(const std::string& path, uint64_t& generation);

std::string encodeRecord(const Record& record);
// False when the bytes are no record.
bool decodeRecord(std::string_view bytes, Record& record);

}  // namespace siteswap::overlay
