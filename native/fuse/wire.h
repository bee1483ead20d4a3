// The only code that touches raw protocol bytes: packets taken apart with every bound checked, and directory listings
// put together within the size that the kernel asked for.
//
// Pure: nothing here reads the device. Used by Session (packets) and by READDIR/READDIRPLUS handlers (DirectoryList).
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include "fuse/protocol.h"

namespace siteswap::fuse {

struct OpcodeRow;

// Bytes of one request. Not zero-filled: a new one is written over at once.
class Packet {
 public:
  Packet() = default;
  explicit Packet(size_t sizeBytes)
      : bytes_(std::make_unique_for_overwrite<std::byte[]>(sizeBytes)), size_(sizeBytes), capacity_(sizeBytes) {}
  std::byte* data() { return bytes_.get(); }
  const std::byte* data() const { return bytes_.get(); }
  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  void resize(size_t sizeBytes) { size_ = sizeBytes < capacity_ ? sizeBytes : capacity_; }
  std::span<const std::byte> bytes() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

// Takes bytes from the front of a packet, or fails without moving.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}
  // `sizeBytes` bytes, or null when there are fewer.
  const std::byte* take(size_t sizeBytes);
  // A NUL-terminated string, without its NUL; data() is null when no NUL follows.
  std::string_view takeName();
  std::span<const std::byte> rest() const { return rest_; }

 private:
  std::span<const std::byte> rest_;
};

// Where the parts of a request are. Views into the packet.
struct Layout {
  std::array<std::string_view, 2> names;
  std::span<const std::byte> payload;
};

// Copies a packet so that its fixed argument has the row's full size: what the wire left out is zero.
Packet copyExtended(std::span<const std::byte> wire, const OpcodeRow& row);

// Checks a packet as it came from the device: null when it is sound, else what is wrong.
const char* checkWire(std::span<const std::byte> wire, const OpcodeRow& row);

// Finds the parts of a packet that checkWire() passed, `fixedBytes` being the size of its argument.
Layout layOut(std::span<const std::byte> packet, size_t fixedBytes, const OpcodeRow& row);

// The body of a READDIR or READDIRPLUS answer. Each add returns false, and adds nothing, when the entry does not fit;
// `nextOffset` is the cookie that continues behind this entry. `type` is a DT_* value.
class DirectoryList {
 public:
  explicit DirectoryList(size_t maxBytes) : bytes_(maxBytes) {}
  bool add(std::string_view name, uint64_t ino, uint32_t type, uint64_t nextOffset);
  // READDIRPLUS. An entry with nodeid 0 takes no lookup reference ("." and ".." must have it).
  bool addPlus(std::string_view name, const fuse_entry_out& entry, uint32_t type, uint64_t nextOffset);
  const void* data() const { return bytes_.data(); }
  size_t size() const { return used_; }

 private:
  bool append(const fuse_entry_out* entry, fuse_dirent record, std::string_view name);

  Packet bytes_;
  size_t used_ = 0;
};

}  // namespace siteswap::fuse
