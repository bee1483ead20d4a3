// The FUSE session: INIT, threads, dispatch, stopping. It knows the protocol and nothing about overlays.
//
// Threads: leader/follower. Exactly one thread at a time reads from the device; it serves what it read itself.
// A handler that may block calls Request::resign() first: another thread becomes the reader, so nobody waits behind it.
// Pool threads also run resubmitted requests.
// Lock order: nothing here is held while a handler runs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "fuse/operations.h"

namespace siteswap::fuse {

enum class StopReason {
  kUnmounted,      // read: ENODEV
  kAborted,        // read: ECONNABORTED
  kPeerClosed,     // end of file (a socket pair in tests)
  kInitFailed,     // the kernel is too old or its INIT is malformed
  kProtocolError,  // a packet that no kernel sends, and the connection can't go on
  kDeviceError,    // any other errno
  kRequested,      // stop()
};
const char* toString(StopReason);

struct SessionOptions {
  int deviceFd = -1;  // borrowed, not closed
  bool disableEpoch = false;
  bool disableNoOpen = false;
  bool disableReaddirplus = false;
  bool disableResend = false;
  bool trace = false;  // log each request
  // A descriptor taken over from an earlier server: no INIT will come; this is what was negotiated then.
  bool initAlreadyDone = false;
  uint32_t resumedMinor = 0;
  std::function<void(const std::string&)> log;  // one line, any thread
  // Once, from the last thread to end; the text is for people. It must not call stop() itself.
  std::function<void(StopReason, std::string)> stopped;
};

// What INIT gave. Constant once `ready` is called; handlers run after that only.
struct Negotiated {
  uint32_t minor = 0;     // the kernel's, also when it is newer than what we speak
  uint64_t flags = 0;     // those in use; 0 when the session was taken over
  uint32_t maxWrite = 0;  // bytes
  bool noOpen = false;    // answer ENOSYS to OPEN
  bool readdirplus = false;
  bool epoch = false;  // FUSE_NOTIFY_INC_EPOCH works: minor >= 44 and not disabled
  bool resend = false;
};

class Session {
 public:
  Session(SessionOptions options, Operations& operations);
  ~Session();

  // Starts the threads; `ready` is called once from one of them after INIT (or at once when it was already done).
  // When it never is (kInitFailed, …), `stopped` is. May be called once.
  void start(std::function<void(const Negotiated&)> ready);
  // Asks the threads to end and joins them, within handlers' own time. Work that was posted before is done first.
  // Parked requests should have been answered before: one that is destroyed later answers EIO. Call it from outside
  // (not from a handler, posted work, `ready` or `stopped`); any number of times; the destructor does so too.
  void stop();

  const Negotiated& negotiated() const;

  // Dispatches the request again from the start, on a pool thread of its own session. After that one's end it is
  // answered EIO.
  static void resubmit(RequestPtr request);
  // Runs `work` on a pool thread. After the end of the session it is dropped, and false returned.
  bool post(std::function<void()> work);

  // Notifications; 0 or a positive errno (ENOENT: the kernel does not know the inode, no harm; ENOSYS: not negotiated).
  int notifyIncEpoch();
  int notifyInvalInode(uint64_t nodeid, int64_t offset, int64_t length);  // offset < 0: attributes only
  int notifyInvalEntry(uint64_t parent, std::string_view name);           // takes the parent's lock: see fuse facts
  int notifyResend();  // when no thread works on old requests any more

  // Requests seen so far by opcode, for counters(): index = opcode.
  uint64_t requestCount(uint32_t opcode) const;

 private:
  friend class Request;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace siteswap::fuse
