#include "fuse/request.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "fuse/opcodes.h"
#include "fuse/session_state.h"

namespace siteswap::fuse {

Request::Request(Session& session, const OpcodeRow& row, Packet packet)
    : session_(session),
      row_(row),
      packet_(std::move(packet)),
      layout_(layOut(packet_.bytes(), row.structBytes, row)) {}

Request::~Request() {
  Session::State& state = *session_.state_;
  if (!answered_ && row_.replies) {
    state.log([&] { return "answered EIO, as nobody answered it: " + describe(); });
    replyError(EIO);
  }
  state.recycle(std::move(packet_));
}

const char* Request::opcodeName() const {
  return row_.name;
}

const std::byte* Request::fixedArgument(size_t sizeBytes) const {
  // A handler that reads another struct than its row has is our bug; it gets zeros, not bytes from elsewhere.
  alignas(8) static constexpr std::byte kZeros[256] = {};
  if (sizeBytes <= row_.structBytes) return packet_.data() + sizeof(fuse_in_header);
  session_.state_->log([&] { return "bug: a handler reads more argument than there is: " + describe(); });
  return kZeros;
}

std::string Request::describe() const {
  char head[128];
  std::snprintf(head, sizeof head, "%s unique %llx node %llx tid %u", row_.name,
                static_cast<unsigned long long>(unique()), static_cast<unsigned long long>(nodeid()), tid());
  std::string text = head;
  for (int i = 0; i < row_.names; ++i) {
    text += " '";
    // Names are any bytes: what would break a log line is shown as '?'.
    for (const char c : name(i)) text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    text += '\'';
  }
  return text;
}

bool Request::claimAnswer() {
  if (answered_) {
    session_.state_->log([&] { return "bug: answered twice, the second is not sent: " + describe(); });
    return false;
  }
  if (!row_.replies) session_.state_->log([&] { return "bug: answered, but no answer is expected: " + describe(); });
  answered_ = true;
  return row_.replies;
}

void Request::finish(int error, const iovec* parts, int count) {
  if (!claimAnswer()) return;
  Session::State& state = *session_.state_;
  const int failure = state.answer(unique(), error, parts, count);
  // The caller was interrupted meanwhile, or the mount is gone: nobody is waiting for this any more.
  if (failure == 0 || failure == ENOENT || failure == ENODEV || failure == ECONNABORTED) return;
  state.log([&] { return "the answer was not taken (errno " + std::to_string(failure) + "): " + describe(); });
  // Whoever waits must not wait for ever because of a body that the kernel would not have.
  if (error == 0) state.answer(unique(), EIO, nullptr, 0);
}

void Request::replyError(int positiveErrno) {
  finish(positiveErrno, nullptr, 0);
}

void Request::replyEmpty() {
  finish(0, nullptr, 0);
}

void Request::replyData(const void* data, size_t sizeBytes) {
  const iovec part{const_cast<void*>(data), sizeBytes};
  finish(0, &part, 1);
}

void Request::replyVector(const iovec* parts, int count) {
  finish(0, parts, count);
}

void Request::replyNone() {
  if (row_.replies) {
    session_.state_->log([&] { return "bug: an answer is expected and was withheld: " + describe(); });
    return;  // the destructor answers
  }
  answered_ = true;
}

void Request::resign() {
  session_.state_->pool.resign();
}

}  // namespace siteswap::fuse
