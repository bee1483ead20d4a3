// The inside of a Session, shared by session.cc, request.cc and notify.cc. Not for anybody else.
#pragma once

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fuse/leader_pool.h"
#include "fuse/opcodes.h"
#include "fuse/session.h"

namespace siteswap::fuse {

struct Session::State {
  State(Session& session, SessionOptions options, Operations& operations);

  Session& session;
  const SessionOptions options;
  Operations& operations;

  Negotiated negotiated;  // written before `ready` is called, constant after it

  // The leader's own: it hands them on through the pool's lock.
  std::function<void(const Negotiated&)> ready;
  bool initialised = false;
  Packet buffer;

  std::array<std::atomic<uint64_t>, kOpcodeLimit> counts{};

  std::mutex mutex;  // guards the next three; a leaf: nothing is called while it is held
  std::optional<StopReason> reason;
  std::string reasonText;
  std::vector<Packet> spareBuffers;

  LeaderPool pool;  // last: its threads use all of the above

  // Reading and serving (session.cc).
  bool serveOne();
  void announce();
  ssize_t readPacket();
  bool endedBy(int error);
  bool initialise(std::span<const std::byte> wire, const fuse_in_header& header);
  bool handleOwn(std::span<const std::byte> wire, const OpcodeRow& row, const fuse_in_header& header);
  Packet takePacket(size_t sizeBytes, const OpcodeRow& row);
  void dispatch(RequestPtr request, const OpcodeRow& row);
  // Remembers why the session ends; the first reason counts. Always false, for `return stopFor(...)`.
  bool stopFor(StopReason why, std::string text);
  void ended();

  // One writev of an answer or a notification; 0 or a positive errno.
  int answer(uint64_t unique, int error, const iovec* parts, int count);
  int notify(int32_t code, const iovec* parts, int count);
  int send(fuse_out_header header, const iovec* parts, int count);

  void recycle(Packet packet);
  // A line of the log, made by `text`; left out when there is no memory for it.
  template <class Text>
  void log(Text&& text) const noexcept {
    try {
      if (options.log) options.log(text());
    } catch (const std::bad_alloc&) {
    }
  }
};

}  // namespace siteswap::fuse
