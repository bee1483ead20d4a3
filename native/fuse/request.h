// One FUSE request, from the read(2) that brought it to its one answer.
//
// Invariants: the opcode table checked the fixed argument's size and the NUL-terminated names before a handler
// sees the request; every request is answered exactly once (or needs no reply); a request that is destroyed
// unanswered answers EIO and logs. A Request may be kept (moved into a std::unique_ptr) and answered later by any
// thread.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "fuse/protocol.h"
#include "fuse/wire.h"

namespace siteswap::fuse {

class Session;

class Request {
 public:
  // Session only: `packet` passed checkWire() for `row` and has its argument in full (copyExtended()).
  Request(Session& session, const OpcodeRow& row, Packet packet);
  ~Request();
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  const fuse_in_header& header() const { return *reinterpret_cast<const fuse_in_header*>(packet_.data()); }
  uint64_t nodeid() const { return header().nodeid; }
  // A thread id in the mounter's pid namespace; 0 when the caller can't be seen from there.
  uint32_t tid() const { return header().pid; }
  uint64_t unique() const { return header().unique; }
  uint32_t opcode() const { return header().opcode; }
  const char* opcodeName() const;

  // The fixed argument struct. The table guarantees that it is there in full (compat sizes are zero-extended).
  template <class T>
  const T& arg() const {
    return *reinterpret_cast<const T*>(fixedArgument(sizeof(T)));
  }
  // The i-th NUL-terminated string behind the fixed argument (0 or 1), without the NUL.
  std::string_view name(int i = 0) const { return layout_.names[static_cast<size_t>(i)]; }
  // What follows the fixed argument and the names: WRITE's data, SETXATTR's value (both as long as their argument
  // says).
  std::span<const std::byte> payload() const { return layout_.payload; }

  // Opcode, numbers and names in one line, for logs.
  std::string describe() const;

  // Answers: one of them, once; a second one is logged and not sent. A failing write to the device is logged, never
  // thrown. The object stays readable until it is freed.
  void replyError(int positiveErrno);
  void replyEmpty();                                   // success without a body
  void replyData(const void* data, size_t sizeBytes);  // success with one body
  void replyVector(const iovec* parts, int count);     // success, gathered
  void replyNone();                                    // FORGET and friends: nothing is sent
  template <class T>
  void reply(const T& body) {
    replyData(&body, sizeof body);
  }
  bool answered() const { return answered_; }

  // "What follows may block": hands the reader's role to another thread, so that others are served meanwhile.
  // Idempotent; a no-op on a thread that is not the reader.
  void resign();

  // Set when this request was parked and run again after its caller became a member of a transaction by it.
  bool beganMembership = false;
  // Set when it was parked and policy said: into the live layer.
  bool goesLive = false;

  Session& session() const { return session_; }

 private:
  const std::byte* fixedArgument(size_t sizeBytes) const;

  bool claimAnswer();
  void finish(int error, const iovec* parts, int count);

  Session& session_;
  const OpcodeRow& row_;
  Packet packet_;
  Layout layout_;
  bool answered_ = false;
};

using RequestPtr = std::unique_ptr<Request>;

}  // namespace siteswap::fuse
