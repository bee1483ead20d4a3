#include "overlay/journal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "overlay/manifest.h"

namespace siteswap::overlay {

namespace {

constexpr char kJournalMagic[8] = {'S', 'S', 'W', 'J', 'R', 'N', 'L', '1'};
constexpr size_t kChunk = size_t{1} << 20;

struct Frame {
  uint32_t sizeBytes;  // of the encoded record
  uint32_t check;
};

uint32_t checkOf(std::string_view bytes) {
  const uint64_t h = xxh64(bytes.data(), bytes.size(), 0x73737761);
  return static_cast<uint32_t>(h ^ (h >> 32)) | 1;
}

size_t padded(size_t sizeBytes) {
  return (sizeBytes + 7) & ~size_t{7};
}

// The fixed part of an encoded record; name, name2 and text follow.
struct Fixed {
  uint8_t type;
  uint8_t unused[3];
  uint32_t mode, uid, gid, rdev, flags, mask, index;
  uint64_t ino, parent, parent2, generation;
  int64_t timeNs, atimeNs, mtimeNs;
  uint32_t nameLen, name2Len, textLen, unused2;
};

}  // namespace

std::string encodeRecord(const Record& r) {
  Fixed f{};
  f.type = static_cast<uint8_t>(r.type);
  f.mode = r.mode, f.uid = r.uid, f.gid = r.gid, f.rdev = r.rdev, f.flags = r.flags, f.mask = r.mask, f.index = r.index;
  f.ino = r.ino, f.parent = r.parent, f.parent2 = r.parent2, f.generation = r.generation;
  f.timeNs = r.timeNs, f.atimeNs = r.atimeNs, f.mtimeNs = r.mtimeNs;
  f.nameLen = static_cast<uint32_t>(r.name.size());
  f.name2Len = static_cast<uint32_t>(r.name2.size());
  f.textLen = static_cast<uint32_t>(r.text.size());
  std::string bytes(reinterpret_cast<const char*>(&f), sizeof f);
  bytes += r.name;
  bytes += r.name2;
  bytes += r.text;
  return bytes;
}

bool decodeRecord(std::string_view bytes, Record& r) {
  Fixed f;
  if (bytes.size() < sizeof f) return false;
  std::memcpy(&f, bytes.data(), sizeof f);
  bytes.remove_prefix(sizeof f);
  if (f.type < static_cast<uint8_t>(RecordType::kBegin) || f.type > static_cast<uint8_t>(RecordType::kRemoveXattr) ||
      uint64_t{f.nameLen} + f.name2Len + f.textLen != bytes.size()) {
    return false;
  }
  r.type = static_cast<RecordType>(f.type);
  r.mode = f.mode, r.uid = f.uid, r.gid = f.gid, r.rdev = f.rdev, r.flags = f.flags, r.mask = f.mask, r.index = f.index;
  r.ino = f.ino, r.parent = f.parent, r.parent2 = f.parent2, r.generation = f.generation;
  r.timeNs = f.timeNs, r.atimeNs = f.atimeNs, r.mtimeNs = f.mtimeNs;
  r.name = bytes.substr(0, f.nameLen);
  r.name2 = bytes.substr(f.nameLen, f.name2Len);
  r.text = bytes.substr(f.nameLen + f.name2Len);
  return true;
}

Journal::~Journal() {
  if (map_ != nullptr) ::munmap(map_, mapSize_);
}

int Journal::mapUpTo(size_t sizeBytes) {
  if (sizeBytes <= mapSize_) return 0;
  const size_t wanted = (sizeBytes + kChunk - 1) / kChunk * kChunk;
  // Allocated now, so that no store into the mapping can meet a full disk (SIGBUS).
  if (const int e = ::posix_fallocate(fd_.get(), 0, static_cast<off_t>(wanted)); e != 0) return e;
  void* map = map_ == nullptr ? ::mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0)
                              : ::mremap(map_, mapSize_, wanted, MREMAP_MAYMOVE);
  if (map == MAP_FAILED) return errno;
  map_ = static_cast<char*>(map);
  mapSize_ = wanted;
  return 0;
}

int Journal::create(const std::string& path) {
  fd_ = sys::UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd_) return errno;
  if (const int e = mapUpTo(kChunk)) return e;
  std::memcpy(map_, kJournalMagic, sizeof kJournalMagic);
  used_ = sizeof kJournalMagic;
  return 0;
}

int Journal::replay(const std::string& path, const std::function<void(const Record&)>& each) {
  fd_ = sys::UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd_) return errno;
  struct stat st;
  if (::fstat(fd_.get(), &st) != 0) return errno;
  if (const int e = mapUpTo(std::max(static_cast<size_t>(st.st_size), sizeof kJournalMagic))) return e;
  if (std::memcmp(map_, kJournalMagic, sizeof kJournalMagic) != 0) return EBADMSG;
  used_ = sizeof kJournalMagic;
  while (used_ + sizeof(Frame) <= mapSize_) {
    Frame frame;
    std::memcpy(&frame, map_ + used_, sizeof frame);
    if (frame.sizeBytes == 0 || frame.sizeBytes > mapSize_ - used_ - sizeof frame) break;
    const std::string_view bytes(map_ + used_ + sizeof frame, frame.sizeBytes);
    Record record;
    if (frame.check != checkOf(bytes) || !decodeRecord(bytes, record)) break;
    each(record);
    used_ += padded(sizeof frame + frame.sizeBytes);
  }
  // What a torn record left behind must not look like a record later.
  std::memset(map_ + used_, 0, mapSize_ - used_);
  return 0;
}

int Journal::append(const Record& record) {
  const std::string bytes = encodeRecord(record);
  const size_t total = padded(sizeof(Frame) + bytes.size());
  if (const int e = mapUpTo(used_ + total + sizeof(Frame))) return e;
  const Frame frame{static_cast<uint32_t>(bytes.size()), checkOf(bytes)};
  std::memcpy(map_ + used_ + sizeof frame, bytes.data(), bytes.size());
  // The size last: until it is there, the journal ends before this record.
  std::memcpy(map_ + used_ + offsetof(Frame, check), &frame.check, sizeof frame.check);
  __atomic_store_n(reinterpret_cast<uint32_t*>(map_ + used_), frame.sizeBytes, __ATOMIC_RELEASE);
  used_ += total;
  return 0;
}

int Journal::sync() {
  return ::fdatasync(fd_.get()) == 0 ? 0 : errno;
}

int readBaseGeneration(const std::string& path, uint64_t& generation) {
  bool found = false;
  const int e = Journal().replay(path, [&](const Record& record) {
    if (record.type != RecordType::kBegin) return;
    generation = record.generation;
    found = true;
  });
  return e != 0 ? e : found ? 0 : EBADMSG;
}

}  // namespace siteswap::overlay
