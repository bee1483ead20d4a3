// A manifest: the immutable index of one visible tree, in one file that is mapped, checked once, then read in place.
//
// Layout, little endian, in this order: Header, Entry[entryCount], Import[importCount], InoIndex[inoIndexCount],
// strings. Entry 0 is the root. Children of a directory are contiguous and sorted by name (bytes). Everything behind a
// root entry whose content did not change is not repeated: the root entry then *imports* the directory from the
// manifest of the generation that made it, so that a commit writes what it changed and not the whole tree.
//
// Invariants checked by open(): sizes and checksum; every offset and index within bounds; children and parents
// point at each other; names are 1..255 bytes without '/' or NUL, not "." or "..", sorted and unique; the flags are
// known. Called by: views, merge, scan, path calls.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace siteswap::overlay {

inline constexpr uint64_t kRootIno = 1;
inline constexpr uint32_t kManifestVersion = 1;

enum EntryFlags : uint16_t {
  kImported = 1,      // a root entry: the directory is entry `firstChild` of import number `import`
  kHasLowerPath = 2,  // `link` is the path in the lower, which is not the path in this tree
  kSeveralNames = 4,  // a hard link: this number has more than one name in the tree
  kKnownEntryFlags = 7,
};

struct Entry {
  uint64_t ino;
  uint64_t size;    // bytes
  uint64_t blocks;  // of 512 bytes
  int64_t atimeNs, mtimeNs, ctimeNs;
  uint64_t body;      // regular files of a layer: the body's number
  uint64_t lowerIno;  // st_ino in the lower, 0 when it is not from there
  uint32_t mode;      // with type bits
  uint32_t uid, gid, nlink, rdev;
  uint32_t parent;                  // entry index
  uint32_t firstChild, childCount;  // directories
  uint32_t layer;                   // regular files: 0 = the lower, by path; else the layer's number
  uint32_t name;                    // offsets into strings
  uint32_t link, linkLen;           // a symlink's target, or see kHasLowerPath
  uint32_t xattrs, xattrsLen;       // see xattr.h
  uint16_t nameLen, flags;
  uint32_t import;
};
static_assert(sizeof(Entry) == 128);

struct ManifestHeader {
  char magic[8];
  uint32_t version, flags;
  uint64_t generation;
  uint64_t fileSize;
  uint64_t entryCount, importCount, inoIndexCount, stringsSize;
  uint64_t denseFirstIno;  // not 0: entry i (i > 0) has number denseFirstIno + i, or is a further name of a hard link
  uint64_t nextIno;
  int64_t maxMtimeNs;
  uint64_t reserved[4];
  uint64_t checksum;  // XXH64 of the whole file with this field 0
};
static_assert(sizeof(ManifestHeader) == 128);

struct ImportRecord {
  uint64_t generation;
};
struct InoIndexRecord {
  uint64_t ino;
  uint64_t index;
};

class Manifest {
 public:
  // Null and a one-line reason when the file is not a sound manifest.
  static std::unique_ptr<Manifest> open(const std::string& path, std::string& error);
  ~Manifest();
  Manifest(const Manifest&) = delete;
  Manifest& operator=(const Manifest&) = delete;

  const ManifestHeader& header() const { return *reinterpret_cast<const ManifestHeader*>(map_); }
  uint64_t generation() const { return header().generation; }
  uint32_t size() const { return static_cast<uint32_t>(header().entryCount); }
  const Entry& entry(uint32_t index) const { return entries_[index]; }
  std::string_view name(const Entry& e) const { return {strings_ + e.name, e.nameLen}; }
  std::string_view link(const Entry& e) const { return {strings_ + e.link, e.linkLen}; }
  std::string_view xattrs(const Entry& e) const { return {strings_ + e.xattrs, e.xattrsLen}; }
  std::optional<uint32_t> childIndex(const Entry& directory, std::string_view name) const;
  // By number: the (first) entry of this file with it. Imported directories are not found here.
  std::optional<uint32_t> indexOf(uint64_t ino) const;
  const std::vector<uint64_t>& imports() const { return imports_; }

  // The manifests that imports() names, in that order; set once by the registry before the manifest is used.
  std::vector<const Manifest*> imported;

 private:
  Manifest() = default;
  bool check(std::string& error);

  const char* map_ = nullptr;
  size_t mapSize_ = 0;
  const Entry* entries_ = nullptr;
  const InoIndexRecord* inoIndex_ = nullptr;
  const char* strings_ = nullptr;
  std::vector<uint64_t> imports_;
};

// One entry of one manifest; imports are already followed. Manifests live as long as the engine.
struct Committed {
  const Manifest* manifest = nullptr;
  uint32_t index = 0;

  explicit operator bool() const { return manifest != nullptr; }
  const Entry& entry() const { return manifest->entry(index); }
  bool operator==(const Committed&) const = default;
  bool isDirectory() const;
  Committed child(std::string_view name) const;
  // What is at this path below it; "" is itself.
  Committed descendant(std::string_view path) const;
  // The last part of its path.
  std::string_view name() const { return manifest->name(entry()); }
  // The i-th child of this directory, in order of names.
  Committed childAt(uint32_t i) const;
  std::string_view nameOfChild(uint32_t i) const;
  // Path from the root, without a leading slash.
  std::string path() const;
  // Path below the lower directory of a regular file with layer 0.
  std::string lowerPath() const;
};

// The path of `name` in a directory; that of the root is "".
std::string joinPath(std::string_view directory, std::string_view name);

uint64_t xxh64(const void* data, size_t sizeBytes, uint64_t seed);

}  // namespace siteswap::overlay
