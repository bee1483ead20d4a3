// Notifications: messages that the server sends of its own accord. Their unique is 0 and their error is the code.
//
// INC_EPOCH and RESEND take no lock in the kernel. INVAL_INODE waits for pages of the inode that are being read.
// INVAL_ENTRY takes the parent directory's lock: never from a handler, and not while a LOOKUP in it is unanswered.
#include <cerrno>

#include "fuse/session.h"
#include "fuse/session_state.h"

namespace siteswap::fuse {

int Session::State::notify(int32_t code, const iovec* parts, int count) {
  return send({0, code, 0}, parts, count);
}

int Session::notifyIncEpoch() {
  if (!state_->negotiated.epoch) return ENOSYS;
  return state_->notify(kNotifyIncEpoch, nullptr, 0);
}

int Session::notifyInvalInode(uint64_t nodeid, int64_t offset, int64_t length) {
  fuse_notify_inval_inode_out body{nodeid, offset, length};
  const iovec part{&body, sizeof body};
  return state_->notify(kNotifyInvalInode, &part, 1);
}

int Session::notifyInvalEntry(uint64_t parent, std::string_view name) {
  NotifyInvalEntryOut body{parent, static_cast<uint32_t>(name.size()), 0};
  char nul = 0;
  const iovec parts[] = {
      {&body, sizeof body},
      {const_cast<char*>(name.data()), name.size()},
      {&nul, 1},
  };
  return state_->notify(kNotifyInvalEntry, parts, 3);
}

int Session::notifyResend() {
  if (!state_->negotiated.resend) return ENOSYS;
  return state_->notify(kNotifyResend, nullptr, 0);
}

}  // namespace siteswap::fuse
