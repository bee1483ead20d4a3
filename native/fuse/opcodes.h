// The one table of FUSE opcodes. Dispatch, names in logs and counters, and the checks of every packet come from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fuse/operations.h"

namespace siteswap::fuse {

enum class Handling : uint8_t {
  kOperation,  // row.method
  kErrno,      // never served: answered row.error at once, by the reader's thread
  kSession,    // INIT, INTERRUPT, DESTROY: the session's own
};

struct OpcodeRow {
  uint32_t opcode;
  const char* name;
  uint16_t structBytes;  // the argument as a handler sees it
  uint16_t wireBytes;    // what the kernel sends of it; the rest is zero-extended
  uint8_t names;         // NUL-terminated strings behind it
  bool payload;          // bytes may follow; where false, surplus bytes of a newer protocol are ignored
  bool replies;          // false: the kernel expects no answer
  Handling handling;
  int error;  // kErrno only; positive
  void (Operations::*method)(RequestPtr);
};

// The row of an opcode, or null.
const OpcodeRow* findOpcode(uint32_t opcode);
std::span<const OpcodeRow> opcodeTable();

// Opcodes below this have a counter each; the others share number 0, which is no opcode.
constexpr uint32_t kOpcodeLimit = 64;

}  // namespace siteswap::fuse
