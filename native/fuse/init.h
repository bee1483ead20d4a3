// FUSE_INIT: what we ask of the kernel, as one pure function. Called by Session for the first request of a mount.
#pragma once

#include <string>

#include "fuse/session.h"

namespace siteswap::fuse {

struct InitOutcome {
  enum class Kind {
    kReady,   // send `reply`: the session is up
    kAgain,   // send `reply`: the kernel speaks a later major version and will send INIT again with ours
    kFailed,  // answer EPROTO: `error` tells the user why
  };
  Kind kind;
  InitOut reply;
  Negotiated negotiated;
  std::string error;
};

// `in` is zero behind what the kernel sent.
InitOutcome negotiate(const InitIn& in, const SessionOptions& options);

// What an earlier server negotiated, for one that took over its descriptor (SessionOptions::initAlreadyDone).
Negotiated resumeNegotiated(const SessionOptions& options);

}  // namespace siteswap::fuse
