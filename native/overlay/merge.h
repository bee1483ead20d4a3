// The manifest of a commit: HEAD + (transaction − its base), three-way by path.
//
// Pure with respect to the store: reads two immutable trees and a frozen transaction, writes one new file.
// Rules: what the transaction did not touch is HEAD's. A name that it added, removed or replaced must stand in HEAD as
// it stands in the base, else it is a conflict; directories that exist on both sides are merged name by name. Unchanged
// root directories are imported. A directory below a changed root entry gets a new number (the kernel has one name per
// directory, so a number may not stand under two parents); unchanged files keep theirs. What to do where the rules say
// "conflict" is the caller's to decide: it builds again with resolutions. Every directory whose names
// changed gets a modification time that no generation had before (see fresh()).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "overlay/ino_source.h"
#include "overlay/manifest.h"
#include "overlay/transaction.h"

namespace siteswap::overlay {

// What the new generation has at a path, as the caller decided after a conflict there.
struct Resolution {
  enum Take {
    kHead,
    kTransaction,
    kNothing,  // also where there was no conflict: something of HEAD that goes
    kContent,  // a file with these bytes
    kMerge,    // directories, of which one may be new or gone: name by name. Names that only one side has made in a
               // directory that the other replaced or removed are conflicts of their own then.
  } take;
  std::string content;
};
using Resolutions = std::map<std::string, Resolution>;

struct MergeOptions {
  const Transaction& transaction;
  Committed base, head;  // roots
  uint64_t generation;
  uint32_t layer;
  std::string manifestPath;
  InoSource& numbers;
  int64_t maxMtimeNs;  // the latest directory time given out so far
  Resolutions resolutions = {};
};

struct MergeResult {
  int error = 0;  // positive errno
  std::vector<std::string> conflicts;
  uint64_t entries = 0;
  uint64_t bodies = 0;
  uint64_t nextIno = 0;
  int64_t maxMtimeNs = 0;
};

MergeResult mergeToManifest(const MergeOptions& options);

enum class ChangeKind { kAdded, kRemoved, kModified, kAttributes };
struct Change {
  ChangeKind kind;
  uint32_t mode;  // the type bits are of what is there now, or was
  std::string path;
};
// What the transaction changed against its base, every file by itself.
std::vector<Change> changesOf(const Transaction& transaction);

}  // namespace siteswap::overlay
