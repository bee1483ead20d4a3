// fuse/wire and fuse/opcodes: every row of the table against short and malformed packets, and golden bytes of listings.
#include "fuse/wire.h"

#include <dirent.h>

#include "check.h"
#include "fake_kernel.h"
#include "fuse/opcodes.h"

using namespace siteswap::fuse;
using siteswap::test::Bytes;
using siteswap::test::bytesOf;
using namespace std::string_literals;

namespace {

// A sound packet of a row: argument bytes 1, names "a" and "b", no payload.
Bytes soundPacket(const OpcodeRow& row, size_t fixedBytes) {
  fuse_in_header header{};
  header.opcode = row.opcode;
  header.unique = 2;
  Bytes packet = bytesOf(header);
  packet.resize(packet.size() + fixedBytes);
  for (int i = 0; i < row.names; ++i) {
    const Bytes name = bytesOf(i == 0 ? "a\0"s : "b\0"s);
    packet.insert(packet.end(), name.begin(), name.end());
  }
  header.len = static_cast<uint32_t>(packet.size());
  std::memcpy(packet.data(), &header, sizeof header);
  return packet;
}

void fixLength(Bytes& packet) {
  const auto size = static_cast<uint32_t>(packet.size());
  std::memcpy(packet.data(), &size, sizeof size);
}

std::string hex(const void* data, size_t size) {
  std::string text;
  for (size_t i = 0; i < size; ++i) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", static_cast<unsigned>(static_cast<const uint8_t*>(data)[i]));
    text += two;
    if (i % 8 == 7 && i + 1 < size) text += ' ';
  }
  return text;
}

}  // namespace

TEST(table_is_indexed) {
  for (const OpcodeRow& row : opcodeTable()) {
    CHECK(findOpcode(row.opcode) == &row);
    CHECK(row.wireBytes <= row.structBytes);
    CHECK((row.method != nullptr) == (row.handling == Handling::kOperation));
    CHECK((row.error != 0) == (row.handling == Handling::kErrno));
  }
  CHECK(findOpcode(0) == nullptr);
  CHECK(findOpcode(7) == nullptr);
  CHECK(findOpcode(kOpcodeLimit) == nullptr);
  CHECK(findOpcode(4096) == nullptr);
  CHECK(findOpcode(UINT32_MAX) == nullptr);
  CHECK_EQ(findOpcode(51)->name, "TMPFILE"s);
  CHECK_EQ(findOpcode(45)->name, "RENAME2"s);
}

// The sizes are the protocol's, whatever the header at hand says.
TEST(argument_sizes) {
  const struct {
    uint32_t opcode;
    size_t wire, handler;
  } expected[] = {{1, 0, 0},    {2, 8, 8},    {3, 16, 16},  {4, 88, 88},  {8, 16, 16},  {9, 8, 8},    {12, 8, 16},
                  {13, 8, 8},   {14, 8, 8},   {15, 40, 40}, {16, 40, 40}, {18, 24, 24}, {20, 16, 16}, {21, 8, 16},
                  {22, 8, 8},   {23, 8, 8},   {25, 24, 24}, {26, 16, 16}, {35, 16, 16}, {36, 8, 8},   {42, 8, 8},
                  {43, 32, 32}, {44, 40, 40}, {45, 16, 16}, {46, 24, 24}, {47, 56, 56}, {51, 16, 16}};
  for (const auto& row : expected) {
    CHECK_EQ(findOpcode(row.opcode)->wireBytes, row.wire);
    CHECK_EQ(findOpcode(row.opcode)->structBytes, row.handler);
  }
}

TEST(every_row_sound_and_one_byte_short) {
  for (const OpcodeRow& row : opcodeTable()) {
    Bytes packet = soundPacket(row, row.wireBytes);
    CHECK(checkWire(packet, row) == nullptr);
    // Every shorter length: never sound, as long as the row has anything behind its header.
    while (packet.size() > sizeof(fuse_in_header)) {
      packet.pop_back();
      fixLength(packet);
      CHECK(checkWire(packet, row) != nullptr);
    }
    CHECK((checkWire(packet, row) == nullptr) == (row.wireBytes == 0 && row.names == 0));
    packet.pop_back();
    fixLength(packet);
    CHECK(checkWire(packet, row) != nullptr);
  }
}

TEST(missing_nul) {
  for (const OpcodeRow& row : opcodeTable()) {
    if (row.names == 0) continue;
    Bytes packet = soundPacket(row, row.wireBytes);
    packet.back() = std::byte{'x'};
    CHECK(checkWire(packet, row) != nullptr);
  }
}

TEST(lying_length) {
  for (const OpcodeRow& row : opcodeTable()) {
    for (const uint32_t lie : {0u, 1u, 39u, 41u, 1u << 20, 0x7fffffffu, 0xffffffffu}) {
      Bytes packet = soundPacket(row, row.wireBytes);
      if (packet.size() == lie) continue;
      std::memcpy(packet.data(), &lie, sizeof lie);
      CHECK(checkWire(packet, row) != nullptr);
    }
  }
}

TEST(counts_inside_arguments) {
  const auto sound = [](uint32_t opcode, const auto&... parts) {
    fuse_in_header header{};
    header.opcode = opcode;
    Bytes packet = bytesOf(header, parts...);
    fixLength(packet);
    return checkWire(packet, *findOpcode(opcode)) == nullptr;
  };
  fuse_write_in write{};
  write.size = 3;
  CHECK(sound(FUSE_WRITE, write, "abc"s));
  CHECK(!sound(FUSE_WRITE, write, "ab"s));
  CHECK(!sound(FUSE_WRITE, write, "abcd"s));
  write.size = UINT32_MAX;
  CHECK(!sound(FUSE_WRITE, write, "abc"s));

  const struct { uint32_t size, flags; } setxattr{2, 0};
  CHECK(sound(FUSE_SETXATTR, setxattr, "user.a\0xy"s));
  CHECK(!sound(FUSE_SETXATTR, setxattr, "user.a\0x"s));

  fuse_batch_forget_in batch{2, 0};
  const fuse_forget_one one{5, 1};
  CHECK(sound(FUSE_BATCH_FORGET, batch, one, one));
  CHECK(!sound(FUSE_BATCH_FORGET, batch, one));
  batch.count = 0x10000001;  // times 16 overflows 32 bits
  CHECK(!sound(FUSE_BATCH_FORGET, batch, one));

  fuse_read_in read{};
  read.size = kMaxTransferBytes;
  CHECK(sound(FUSE_READ, read));
  read.size = kMaxTransferBytes + 1;
  CHECK(!sound(FUSE_READ, read));
  CHECK(!sound(FUSE_READDIRPLUS, read));
}

TEST(extended_arguments) {
  // RENAME is seen as RENAME2 without flags, and its names are found behind the longer argument.
  fuse_in_header header{};
  header.opcode = FUSE_RENAME;
  Bytes packet = bytesOf(header, fuse_rename_in{77}, "old\0new\0"s);
  fixLength(packet);
  const OpcodeRow& row = *findOpcode(FUSE_RENAME);
  REQUIRE(checkWire(packet, row) == nullptr);
  const Packet whole = copyExtended(packet, row);
  fuse_rename2_in in;
  std::memcpy(&in, whole.data() + sizeof header, sizeof in);
  CHECK_EQ(in.newdir, 77u);
  CHECK_EQ(in.flags, 0u);
  const Layout layout = layOut(whole.bytes(), row.structBytes, row);
  CHECK_EQ(layout.names[0], "old");
  CHECK_EQ(layout.names[1], "new");
  CHECK(layout.payload.empty());
}

TEST(names_of_any_bytes) {
  fuse_in_header header{};
  header.opcode = FUSE_SYMLINK;
  Bytes packet = bytesOf(header, "\xff\n\x01\0"s, ""s, "\0"s);
  fixLength(packet);
  const OpcodeRow& row = *findOpcode(FUSE_SYMLINK);
  REQUIRE(checkWire(packet, row) == nullptr);
  const Layout layout = layOut(packet, 0, row);
  CHECK_EQ(layout.names[0], "\xff\n\x01");
  CHECK_EQ(layout.names[1], "");
  CHECK(layout.names[1].data() != nullptr);
}

TEST(listing_golden_bytes) {
  DirectoryList list(64);
  CHECK(list.add(".", 1, DT_DIR, 1));
  CHECK_EQ(hex(list.data(), list.size()), "0100000000000000 0100000000000000 0100000004000000 2e00000000000000");
  CHECK(list.add("eightchr", 0x1122334455667788, DT_REG, 0x0a));
  CHECK_EQ(hex(static_cast<const char*>(list.data()) + 32, list.size() - 32),
           "8877665544332211 0a00000000000000 0800000008000000 6569676874636872");
  CHECK_EQ(list.size(), 64u);
  CHECK(!list.add("x", 3, DT_REG, 11));  // full
  CHECK_EQ(list.size(), 64u);

  DirectoryList plus(160);
  fuse_entry_out entry{};
  entry.nodeid = 5;
  entry.attr.ino = 6;
  CHECK(plus.addPlus("a", entry, DT_LNK, 9));
  CHECK_EQ(plus.size(), 160u);
  CHECK_EQ(hex(plus.data(), 8), "0500000000000000");
  CHECK_EQ(hex(static_cast<const char*>(plus.data()) + 128, 32),
           "0600000000000000 0900000000000000 010000000a000000 6100000000000000");
  DirectoryList small(159);
  CHECK(!small.addPlus("a", entry, DT_LNK, 9));
  CHECK_EQ(small.size(), 0u);
  DirectoryList none(0);
  CHECK(!none.add("", 1, 0, 0));
}
