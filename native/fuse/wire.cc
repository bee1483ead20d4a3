#include "fuse/wire.h"

#include "fuse/opcodes.h"

namespace siteswap::fuse {
namespace {

template <class T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// Rules beyond sizes and names, for the rows whose argument counts what follows it.
const char* checkCounts(uint32_t opcode, const std::byte* fixed, std::span<const std::byte> payload) {
  switch (opcode) {
    case FUSE_WRITE:
      return load<fuse_write_in>(fixed).size == payload.size() ? nullptr : "size differs from the data";
    case FUSE_SETXATTR:
      return load<uint32_t>(fixed) == payload.size() ? nullptr : "size differs from the value";
    case FUSE_BATCH_FORGET:
      return load<fuse_batch_forget_in>(fixed).count <= payload.size() / sizeof(fuse_forget_one)
                 ? nullptr
                 : "fewer items than counted";
    case FUSE_READ:
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
      return load<fuse_read_in>(fixed).size <= kMaxTransferBytes ? nullptr : "asks for too much";
    case FUSE_GETXATTR:
    case FUSE_LISTXATTR:
      return load<fuse_getxattr_in>(fixed).size <= kMaxTransferBytes ? nullptr : "asks for too much";
    default:
      return nullptr;
  }
}

}  // namespace

const std::byte* Reader::take(size_t sizeBytes) {
  if (rest_.size() < sizeBytes) return nullptr;
  const std::byte* taken = rest_.data();
  rest_ = rest_.subspan(sizeBytes);
  return taken;
}

std::string_view Reader::takeName() {
  if (rest_.empty()) return {};
  const void* nul = std::memchr(rest_.data(), 0, rest_.size());
  if (nul == nullptr) return {};
  const size_t length = static_cast<size_t>(static_cast<const std::byte*>(nul) - rest_.data());
  const auto* text = reinterpret_cast<const char*>(take(length + 1));
  return {text, length};
}

const char* checkWire(std::span<const std::byte> wire, const OpcodeRow& row) {
  Reader reader(wire);
  const std::byte* head = reader.take(sizeof(fuse_in_header));
  if (head == nullptr) return "shorter than a header";
  if (load<fuse_in_header>(head).len != wire.size()) return "header.len differs from the packet";
  const std::byte* fixed = reader.take(row.wireBytes);
  if (fixed == nullptr) return "argument too short";
  for (int i = 0; i < row.names; ++i) {
    if (reader.takeName().data() == nullptr) return "name without NUL";
  }
  return checkCounts(row.opcode, fixed, reader.rest());
}

Packet copyExtended(std::span<const std::byte> wire, const OpcodeRow& row) {
  const size_t fixedEnd = sizeof(fuse_in_header) + row.wireBytes;
  const size_t gap = row.structBytes - row.wireBytes;
  Packet packet(wire.size() + gap);
  std::memcpy(packet.data(), wire.data(), fixedEnd);
  if (gap > 0) std::memset(packet.data() + fixedEnd, 0, gap);
  if (wire.size() > fixedEnd)
    std::memcpy(packet.data() + fixedEnd + gap, wire.data() + fixedEnd, wire.size() - fixedEnd);
  return packet;
}

Layout layOut(std::span<const std::byte> packet, size_t fixedBytes, const OpcodeRow& row) {
  Layout layout;
  Reader reader(packet);
  reader.take(sizeof(fuse_in_header) + fixedBytes);
  for (int i = 0; i < row.names; ++i) layout.names[static_cast<size_t>(i)] = reader.takeName();
  if (row.payload) layout.payload = reader.rest();
  return layout;
}

bool DirectoryList::add(std::string_view name, uint64_t ino, uint32_t type, uint64_t nextOffset) {
  return append(nullptr, {ino, nextOffset, static_cast<uint32_t>(name.size()), type}, name);
}

bool DirectoryList::addPlus(std::string_view name, const fuse_entry_out& entry, uint32_t type, uint64_t nextOffset) {
  return append(&entry, {entry.attr.ino, nextOffset, static_cast<uint32_t>(name.size()), type}, name);
}

bool DirectoryList::append(const fuse_entry_out* entry, fuse_dirent record, std::string_view name) {
  const size_t head = (entry == nullptr ? 0 : sizeof *entry) + sizeof record;
  const size_t padded = FUSE_REC_ALIGN(head + name.size());
  if (padded > bytes_.size() - used_) return false;
  std::byte* out = bytes_.data() + used_;
  if (entry != nullptr) {
    std::memcpy(out, entry, sizeof *entry);
    out += sizeof *entry;
  }
  std::memcpy(out, &record, sizeof record);
  out += sizeof record;
  if (!name.empty()) std::memcpy(out, name.data(), name.size());
  std::memset(out + name.size(), 0, padded - head - name.size());
  used_ += padded;
  return true;
}

}  // namespace siteswap::fuse
