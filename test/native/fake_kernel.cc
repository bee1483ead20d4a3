#include "fake_kernel.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace siteswap::test {

FakeKernel::FakeKernel() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    std::perror("socketpair");
    std::abort();
  }
  kernel_ = ends[0];
  device_ = ends[1];
  for (const int fd : ends) {
    const int size = 4 << 20;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    // A session that has ended reads no more: the test is to fail then, not to hang.
    const timeval patience{20, 0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }
  receiver_ = std::thread([this] { receive(); });
}

FakeKernel::~FakeKernel() {
  close();
  receiver_.join();
  ::close(kernel_);
  ::close(device_);
}

void FakeKernel::close() {
  shutdown(kernel_, SHUT_RDWR);
}

void FakeKernel::receive() {
  Bytes buffer(2 << 20);
  for (;;) {
    const ssize_t size = recv(kernel_, buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    std::lock_guard lock(mutex_);
    if (size <= 0) {
      closed_ = true;
      arrived_.notify_all();
      return;
    }
    fuse_out_header header{};
    if (static_cast<size_t>(size) < sizeof header) std::abort();
    std::memcpy(&header, buffer.data(), sizeof header);
    if (header.len != static_cast<size_t>(size)) std::abort();
    Reply reply{header.unique, header.error, Bytes(buffer.begin() + sizeof header, buffer.begin() + size)};
    if (header.unique == 0) {
      notifications_.push_back(std::move(reply));
    } else if (!replies_.emplace(header.unique, std::move(reply)).second) {
      std::fprintf(stderr, "unique %llu was answered twice\n", static_cast<unsigned long long>(header.unique));
      std::abort();
    }
    arrived_.notify_all();
  }
}

void FakeKernel::sendRaw(const Bytes& packet) {
  ssize_t sent;
  do {
    sent = ::send(kernel_, packet.data(), packet.size(), MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno != EPIPE && errno != ECONNRESET) {
    std::perror("sending a request");
    std::abort();
  }
}

size_t FakeKernel::largestBody() const {
  int size = 0;
  socklen_t length = sizeof size;
  getsockopt(kernel_, SOL_SOCKET, SO_SNDBUF, &size, &length);
  return std::min<size_t>(1 << 20, static_cast<size_t>(size) / 2 - 4096);
}

uint64_t FakeKernel::send(uint32_t opcode, uint64_t nodeid, const Bytes& body, std::optional<uint64_t> unique,
                          uint32_t tid) {
  fuse_in_header header{};
  header.len = static_cast<uint32_t>(sizeof header + body.size());
  header.opcode = opcode;
  header.nodeid = nodeid;
  header.pid = tid;
  {
    std::lock_guard lock(mutex_);
    header.unique = unique ? *unique : std::exchange(nextUnique_, nextUnique_ + 2);
  }
  sendRaw(bytesOf(header, body));
  return header.unique;
}

std::optional<Reply> FakeKernel::wait(uint64_t unique, int timeoutMs) {
  std::unique_lock lock(mutex_);
  arrived_.wait_for(lock, std::chrono::milliseconds(timeoutMs), [&] { return closed_ || replies_.contains(unique); });
  const auto node = replies_.extract(unique);
  if (node.empty()) return std::nullopt;
  return std::move(node.mapped());
}

Reply FakeKernel::ask(uint32_t opcode, uint64_t nodeid, const Bytes& body) {
  const uint64_t unique = send(opcode, nodeid, body);
  return wait(unique).value_or(Reply{unique, -ETIMEDOUT, {}});
}

std::optional<Reply> FakeKernel::waitNotification(int timeoutMs) {
  std::unique_lock lock(mutex_);
  arrived_.wait_for(lock, std::chrono::milliseconds(timeoutMs), [&] { return closed_ || !notifications_.empty(); });
  if (notifications_.empty()) return std::nullopt;
  Reply first = std::move(notifications_.front());
  notifications_.erase(notifications_.begin());
  return first;
}

size_t FakeKernel::unclaimed() {
  std::lock_guard lock(mutex_);
  return replies_.size();
}

Reply FakeKernel::init(uint32_t minor, uint64_t flags) {
  fuse::InitIn in{};
  in.major = fuse::kProtocolMajor;
  in.minor = minor;
  in.maxReadahead = 128 * 1024;
  in.flags = static_cast<uint32_t>(flags);
  in.flags2 = static_cast<uint32_t>(flags >> 32);
  Bytes body = bytesOf(in);
  if (minor < 36) body.resize(fuse::kInitInOldSize);
  return ask(FUSE_INIT, 0, body);
}

}  // namespace siteswap::test
