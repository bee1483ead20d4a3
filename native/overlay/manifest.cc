#include "overlay/manifest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "sys/unique_fd.h"

namespace siteswap::overlay {

namespace {

constexpr char kManifestMagic[8] = {'S', 'I', 'T', 'E', 'S', 'W', 'A', 'P'};

bool isSoundName(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

uint64_t checksumOf(const char* map, size_t sizeBytes) {
  ManifestHeader header;
  std::memcpy(&header, map, sizeof header);
  header.checksum = 0;
  const uint64_t seed = xxh64(&header, sizeof header, 0);
  return xxh64(map + sizeof header, sizeBytes - sizeof header, seed);
}

}  // namespace

std::unique_ptr<Manifest> Manifest::open(const std::string& path, std::string& error) {
  sys::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat st;
  if (!fd || ::fstat(fd.get(), &st) != 0) {
    error = std::string("cannot be opened: ") + std::strerror(errno);
    return nullptr;
  }
  const auto sizeBytes = static_cast<size_t>(st.st_size);
  if (sizeBytes < sizeof(ManifestHeader)) {
    error = "is shorter than its header";
    return nullptr;
  }
  void* map = ::mmap(nullptr, sizeBytes, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (map == MAP_FAILED) {
    error = std::string("cannot be mapped: ") + std::strerror(errno);
    return nullptr;
  }
  std::unique_ptr<Manifest> manifest(new Manifest());
  manifest->map_ = static_cast<const char*>(map);
  manifest->mapSize_ = sizeBytes;
  if (!manifest->check(error)) return nullptr;
  return manifest;
}

Manifest::~Manifest() {
  if (map_ != nullptr) ::munmap(const_cast<char*>(map_), mapSize_);
}

bool Manifest::check(std::string& error) {
  const ManifestHeader& h = header();
  if (std::memcmp(h.magic, kManifestMagic, sizeof kManifestMagic) != 0)
    return error = "is not a siteswap manifest", false;
  if (h.version != kManifestVersion || h.flags != 0) {
    return error = "has the unknown version " + std::to_string(h.version) + " or unknown flags", false;
  }
  if (h.fileSize != mapSize_) {
    return error = "is " + std::to_string(mapSize_) + " bytes long and should be " + std::to_string(h.fileSize), false;
  }
  constexpr uint64_t kMost = uint64_t{1} << 32;
  if (h.entryCount == 0 || h.entryCount >= kMost || h.importCount >= kMost || h.inoIndexCount >= kMost ||
      h.stringsSize >= kMost ||
      sizeof h + h.entryCount * sizeof(Entry) + h.importCount * sizeof(ImportRecord) +
              h.inoIndexCount * sizeof(InoIndexRecord) + h.stringsSize !=
          mapSize_) {
    return error = "has a header whose counts do not add up to its size", false;
  }
  if (checksumOf(map_, mapSize_) != h.checksum) return error = "has a wrong checksum", false;

  const char* at = map_ + sizeof h;
  entries_ = reinterpret_cast<const Entry*>(at);
  at += h.entryCount * sizeof(Entry);
  const auto* imports = reinterpret_cast<const ImportRecord*>(at);
  for (uint64_t i = 0; i < h.importCount; ++i) imports_.push_back(imports[i].generation);
  at += h.importCount * sizeof(ImportRecord);
  inoIndex_ = reinterpret_cast<const InoIndexRecord*>(at);
  at += h.inoIndexCount * sizeof(InoIndexRecord);
  strings_ = at;

  const auto inStrings = [&](uint64_t offset, uint64_t length) { return offset + length <= h.stringsSize; };
  for (uint64_t i = 0; i < h.entryCount; ++i) {
    const Entry& e = entries_[i];
    const auto bad = [&](const char* what) {
      error = "has a bad entry " + std::to_string(i) + ": " + what;
      return false;
    };
    if ((e.flags & ~kKnownEntryFlags) != 0) return bad("unknown flags");
    if (!inStrings(e.name, e.nameLen) || !inStrings(e.link, e.linkLen) || !inStrings(e.xattrs, e.xattrsLen)) {
      return bad("a string is out of bounds");
    }
    if (e.ino == 0 || (e.ino == kRootIno) != (i == 0)) return bad("a wrong inode number");
    if (i == 0) {
      if (!S_ISDIR(e.mode) || (e.flags & kImported) != 0) return bad("the root is not a directory");
    } else {
      if (!isSoundName(name(e)) || e.parent >= i) return bad("its name or parent");
      // An entry that its parent does not list could still be reached by number.
      const Entry& parent = entries_[e.parent];
      if (!S_ISDIR(parent.mode) || (parent.flags & kImported) != 0 || i < parent.firstChild ||
          i - parent.firstChild >= parent.childCount) {
        return bad("its parent does not have it");
      }
    }
    if ((e.flags & kImported) != 0) {
      if (e.import >= h.importCount || e.parent != 0 || !S_ISDIR(e.mode) || e.childCount != 0) return bad("its import");
      continue;
    }
    if (!S_ISDIR(e.mode)) {
      if (e.childCount != 0) return bad("children of something that is not a directory");
      continue;
    }
    // Children lie behind their parent, so there can be no cycle.
    if (e.childCount != 0 && (e.firstChild <= i || uint64_t{e.firstChild} + e.childCount > h.entryCount)) {
      return bad("its children are out of bounds");
    }
    for (uint32_t c = 0; c < e.childCount; ++c) {
      const Entry& child = entries_[e.firstChild + c];
      if (child.parent != i) return bad("a child has another parent");
      if (!inStrings(child.name, child.nameLen)) return bad("a child's name is out of bounds");
      if (c > 0 && !(name(entries_[e.firstChild + c - 1]) < name(child))) return bad("children are not sorted");
    }
  }
  for (uint64_t i = 0; i < h.inoIndexCount; ++i) {
    const InoIndexRecord& r = inoIndex_[i];
    if (r.index >= h.entryCount || entries_[r.index].ino != r.ino || (i > 0 && inoIndex_[i - 1].ino >= r.ino)) {
      return error = "has a bad inode index", false;
    }
  }
  return true;
}

std::optional<uint32_t> Manifest::childIndex(const Entry& directory, std::string_view wanted) const {
  const Entry* first = entries_ + directory.firstChild;
  const Entry* last = first + directory.childCount;
  const Entry* found =
      std::lower_bound(first, last, wanted, [&](const Entry& e, std::string_view n) { return name(e) < n; });
  if (found == last || name(*found) != wanted) return std::nullopt;
  return static_cast<uint32_t>(found - entries_);
}

std::optional<uint32_t> Manifest::indexOf(uint64_t ino) const {
  const ManifestHeader& h = header();
  if (ino == kRootIno) return 0;
  if (h.denseFirstIno != 0) {
    if (ino <= h.denseFirstIno || ino - h.denseFirstIno >= h.entryCount) return std::nullopt;
    const auto index = static_cast<uint32_t>(ino - h.denseFirstIno);
    if (entries_[index].ino != ino) return std::nullopt;
    return index;
  }
  const InoIndexRecord* last = inoIndex_ + h.inoIndexCount;
  const InoIndexRecord* found =
      std::lower_bound(inoIndex_, last, ino, [](const InoIndexRecord& r, uint64_t n) { return r.ino < n; });
  if (found == last || found->ino != ino) return std::nullopt;
  return static_cast<uint32_t>(found->index);
}

bool Committed::isDirectory() const {
  return S_ISDIR(entry().mode);
}

static Committed followImport(const Manifest* manifest, uint32_t index) {
  const Entry& e = manifest->entry(index);
  if ((e.flags & kImported) == 0) return {manifest, index};
  return {manifest->imported[e.import], e.firstChild};
}

Committed Committed::child(std::string_view name) const {
  if (!isDirectory()) return {};
  const auto index = manifest->childIndex(entry(), name);
  return index ? followImport(manifest, *index) : Committed{};
}

Committed Committed::childAt(uint32_t i) const {
  return followImport(manifest, entry().firstChild + i);
}

std::string_view Committed::nameOfChild(uint32_t i) const {
  return manifest->name(manifest->entry(entry().firstChild + i));
}

Committed Committed::descendant(std::string_view path) const {
  Committed at = *this;
  while (at && !path.empty()) {
    const size_t slash = path.find('/');
    at = at.child(path.substr(0, slash));
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
  }
  return at;
}

std::string Committed::path() const {
  std::vector<std::string_view> parts;
  for (uint32_t at = index; at != 0; at = manifest->entry(at).parent)
    parts.push_back(manifest->name(manifest->entry(at)));
  std::string path;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (!path.empty()) path += '/';
    path += *part;
  }
  return path;
}

std::string Committed::lowerPath() const {
  const Entry& e = entry();
  return (e.flags & kHasLowerPath) != 0 ? std::string(manifest->link(e)) : path();
}

std::string joinPath(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty()) path += '/';
  return path += name;
}

// XXH64, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
uint64_t xxh64(const void* data, size_t sizeBytes, uint64_t seed) {
  constexpr uint64_t p1 = 0x9E3779B185EBCA87, p2 = 0xC2B2AE3D27D4EB4F, p3 = 0x165667B19E3779F9, p4 = 0x85EBCA77C2B2AE63,
                     p5 = 0x27D4EB2F165667C5;
  const auto rotl = [](uint64_t x, int r) { return (x << r) | (x >> (64 - r)); };
  const auto round = [&](uint64_t acc, uint64_t lane) { return rotl(acc + lane * p2, 31) * p1; };
  const auto* p = static_cast<const unsigned char*>(data);
  const unsigned char* const end = p + sizeBytes;
  const auto read64 = [](const unsigned char* at) {
    uint64_t v;
    std::memcpy(&v, at, 8);
    return v;
  };
  uint64_t h;
  if (sizeBytes >= 32) {
    uint64_t a[4] = {seed + p1 + p2, seed + p2, seed, seed - p1};
    for (; end - p >= 32; p += 32) {
      for (int i = 0; i < 4; ++i) a[i] = round(a[i], read64(p + 8 * i));
    }
    h = rotl(a[0], 1) + rotl(a[1], 7) + rotl(a[2], 12) + rotl(a[3], 18);
    for (uint64_t lane : a) h = (h ^ round(0, lane)) * p1 + p4;
  } else {
    h = seed + p5;
  }
  h += sizeBytes;
  for (; end - p >= 8; p += 8) h = rotl(h ^ round(0, read64(p)), 27) * p1 + p4;
  if (end - p >= 4) {
    uint32_t v;
    std::memcpy(&v, p, 4);
    h = rotl(h ^ (v * p1), 23) * p2 + p3;
    p += 4;
  }
  for (; p < end; ++p) h = rotl(h ^ (*p * p5), 11) * p1;
  h = (h ^ (h >> 33)) * p2;
  h = (h ^ (h >> 29)) * p3;
  return h ^ (h >> 32);
}

}  // namespace siteswap::overlay
