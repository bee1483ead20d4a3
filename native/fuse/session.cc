#include "fuse/session.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <new>
#include <thread>
#include <utility>

#include "fuse/init.h"
#include "fuse/session_state.h"

namespace siteswap::fuse {
namespace {

// The kernel refuses reads with less room than the largest WRITE and its headers.
constexpr size_t kReadBufferBytes = kMaxTransferBytes + 4096;
// Packets above this are handed to the request in the read buffer, others are copied out of it.
constexpr size_t kCopyLimitBytes = 64 * 1024;
constexpr size_t kSpareBuffers = 4;
constexpr int kMostParts = 64;
constexpr auto kMemoryPause = std::chrono::milliseconds(10);

}  // namespace

const char* toString(StopReason reason) {
  switch (reason) {
    case StopReason::kUnmounted:
      return "unmounted";
    case StopReason::kAborted:
      return "aborted";
    case StopReason::kPeerClosed:
      return "peer-closed";
    case StopReason::kInitFailed:
      return "init-failed";
    case StopReason::kProtocolError:
      return "protocol-error";
    case StopReason::kDeviceError:
      return "device-error";
    case StopReason::kRequested:
      return "requested";
  }
  return "unknown";
}

// --- reading -------------------------------------------------------------------------------------------------------

Session::State::State(Session& owner, SessionOptions given, Operations& ops)
    : session(owner),
      options(std::move(given)),
      operations(ops),
      pool({.step = [this] { return serveOne(); },
            .ended = [this] { ended(); },
            .log = [this](const std::string& line) { log([&] { return line; }); }}) {
  spareBuffers.reserve(kSpareBuffers);
}

// One packet into `buffer`: its size, or a negated errno; EINTR means that the pool ends.
ssize_t Session::State::readPacket() {
  if (buffer.capacity() == 0) {
    std::lock_guard lock(mutex);
    if (!spareBuffers.empty()) {
      buffer = std::move(spareBuffers.back());
      spareBuffers.pop_back();
    }
  }
  while (buffer.capacity() == 0) {
    try {
      buffer = Packet(kReadBufferBytes);
    } catch (const std::bad_alloc&) {
      // Nobody's request is in our hands yet: they wait in the kernel until there is memory.
      if (pool.ending()) return -EINTR;
      std::this_thread::sleep_for(kMemoryPause);
    }
  }
  for (;;) {
    pool.enterWait();
    if (pool.ending()) {
      pool.leaveWait();
      return -EINTR;
    }
    const ssize_t size = read(options.deviceFd, buffer.data(), buffer.capacity());
    const int error = errno;
    if (size < 0 && error == EAGAIN) {
      pollfd waiting{options.deviceFd, POLLIN, 0};
      poll(&waiting, 1, -1);
    }
    pool.leaveWait();
    if (size >= 0) return size;
    // ENOENT: the request was interrupted while it was being read. EINTR: a signal; the loop looks whether it is ours.
    if (error != EINTR && error != EAGAIN && error != ENOENT) return -error;
  }
}

bool Session::State::endedBy(int error) {
  switch (error) {
    case EINTR:
      return stopFor(StopReason::kRequested, "stop was asked for");
    case ENODEV:
      return stopFor(StopReason::kUnmounted, "the file system was unmounted");
    case ECONNABORTED:
      return stopFor(StopReason::kAborted, "the kernel's connection was aborted");
    case ECONNRESET:
      return stopFor(StopReason::kPeerClosed, "the other end was closed");
    default:
      return stopFor(StopReason::kDeviceError, std::string("reading the FUSE device: ") + std::strerror(error));
  }
}

// Tells that requests will be served from now on, once.
void Session::State::announce() {
  if (auto call = std::exchange(ready, nullptr)) call(negotiated);
}

bool Session::State::serveOne() {
  if (initialised) announce();
  const ssize_t size = readPacket();
  if (size < 0) return endedBy(static_cast<int>(-size));
  if (size == 0) return stopFor(StopReason::kPeerClosed, "the other end was closed");
  const std::span<const std::byte> wire{buffer.data(), static_cast<size_t>(size)};

  fuse_in_header header;
  if (wire.size() < sizeof header) {
    // Somebody may wait for its answer, and we can't tell whom to give it to.
    return stopFor(StopReason::kProtocolError, "a packet of " + std::to_string(size) + " bytes has no header");
  }
  std::memcpy(&header, wire.data(), sizeof header);
  const OpcodeRow* row = findOpcode(header.opcode);
  counts[row == nullptr ? 0 : header.opcode].fetch_add(1, std::memory_order_relaxed);

  if (row != nullptr && row->handling == Handling::kErrno) {
    if (row->replies) answer(header.unique, row->error, nullptr, 0);
    return true;
  }
  if (row == nullptr) {
    log([&] { return "opcode " + std::to_string(header.opcode) + " is unknown: answered ENOSYS"; });
    answer(header.unique, ENOSYS, nullptr, 0);
    return true;
  }
  if (const char* wrong = checkWire(wire, *row); wrong != nullptr) {
    log([&] { return std::string("malformed ") + row->name + " of " + std::to_string(size) + " bytes: " + wrong; });
    if (row->opcode == FUSE_INIT && !initialised) {
      answer(header.unique, EIO, nullptr, 0);
      return stopFor(StopReason::kInitFailed, std::string("malformed INIT: ") + wrong);
    }
    if (row->replies) answer(header.unique, EIO, nullptr, 0);
    return true;
  }
  if (row->handling == Handling::kSession) return handleOwn(wire, *row, header);
  if (!initialised) {
    if (row->replies) answer(header.unique, EIO, nullptr, 0);
    return stopFor(StopReason::kProtocolError, std::string(row->name) + " came before INIT");
  }
  if (negotiated.noOpen && (row->opcode == FUSE_OPEN || row->opcode == FUSE_FLUSH)) {
    // The one ENOSYS that turns these off for the life of the connection.
    answer(header.unique, ENOSYS, nullptr, 0);
    return true;
  }
  RequestPtr request;
  try {
    request = std::make_unique<Request>(session, *row, takePacket(wire.size(), *row));
  } catch (const std::bad_alloc&) {
    if (row->replies) answer(header.unique, ENOMEM, nullptr, 0);
    return true;
  }
  dispatch(std::move(request), *row);
  return true;
}

Packet Session::State::takePacket(size_t sizeBytes, const OpcodeRow& row) {
  if (sizeBytes <= kCopyLimitBytes || row.structBytes != row.wireBytes) {
    return copyExtended({buffer.data(), sizeBytes}, row);
  }
  Packet packet = std::exchange(buffer, Packet());
  packet.resize(sizeBytes);
  return packet;
}

void Session::State::recycle(Packet packet) {
  if (packet.capacity() != kReadBufferBytes) return;
  std::lock_guard lock(mutex);
  if (spareBuffers.size() < kSpareBuffers) spareBuffers.push_back(std::move(packet));
}

void Session::State::dispatch(RequestPtr request, const OpcodeRow& row) {
  if (options.trace) log([&] { return request->describe(); });
  try {
    (operations.*row.method)(std::move(request));
  } catch (const std::exception& error) {
    log([&] { return std::string("bug: the handler of ") + row.name + " threw: " + error.what(); });
  }
}

// --- the session's own requests ------------------------------------------------------------------------------------

bool Session::State::handleOwn(std::span<const std::byte> wire, const OpcodeRow& row, const fuse_in_header& header) {
  switch (row.opcode) {
    case FUSE_INIT:
      return initialise(wire, header);
    case FUSE_INTERRUPT: {
      fuse_interrupt_in in;
      std::memcpy(&in, wire.data() + sizeof(fuse_in_header), sizeof in);
      try {
        if (initialised) operations.interrupt(session, in.unique);
      } catch (const std::bad_alloc&) {
        // A signal that is forgotten: the kernel sends another INTERRUPT only for another signal.
      }
      return true;
    }
    default:  // FUSE_DESTROY
      answer(header.unique, 0, nullptr, 0);
      return stopFor(StopReason::kUnmounted, "the kernel sent DESTROY");
  }
}

bool Session::State::initialise(std::span<const std::byte> wire, const fuse_in_header& header) {
  if (initialised) {
    log([] { return "a second INIT: answered EIO"; });
    answer(header.unique, EIO, nullptr, 0);
    return true;
  }
  InitIn in{};
  const std::span<const std::byte> body = wire.subspan(sizeof(fuse_in_header));
  std::memcpy(&in, body.data(), std::min(body.size(), sizeof in));
  const InitOutcome outcome = negotiate(in, options);
  if (outcome.kind == InitOutcome::Kind::kFailed) {
    answer(header.unique, EPROTO, nullptr, 0);
    return stopFor(StopReason::kInitFailed, outcome.error);
  }
  // Known before the kernel may act on the answer: other threads can be asked for anything from then on.
  const bool ready = outcome.kind == InitOutcome::Kind::kReady;
  if (ready) negotiated = outcome.negotiated;
  const iovec part{const_cast<InitOut*>(&outcome.reply), sizeof outcome.reply};
  const int failure = answer(header.unique, 0, &part, 1);
  if (failure != 0) {
    return stopFor(StopReason::kInitFailed, std::string("the answer to INIT failed: ") + std::strerror(failure));
  }
  if (ready) {
    initialised = true;
    announce();
  }
  return true;
}

// --- ending --------------------------------------------------------------------------------------------------------

bool Session::State::stopFor(StopReason why, std::string text) {
  std::lock_guard lock(mutex);
  if (!reason) {
    reason = why;
    reasonText = std::move(text);
  }
  return false;
}

void Session::State::ended() {
  stopFor(StopReason::kRequested, "stop was asked for");  // counts only when nothing else did
  if (options.stopped) options.stopped(*reason, reasonText);
}

// --- writing -------------------------------------------------------------------------------------------------------

int Session::State::answer(uint64_t unique, int error, const iovec* parts, int count) {
  return send({0, -error, unique}, parts, count);
}

int Session::State::send(fuse_out_header header, const iovec* parts, int count) {
  if (count > kMostParts) return EINVAL;
  iovec all[kMostParts + 1];
  all[0] = {&header, sizeof header};
  size_t size = sizeof header;
  for (int i = 0; i < count; ++i) {
    all[i + 1] = parts[i];
    size += parts[i].iov_len;
  }
  header.len = static_cast<uint32_t>(size);
  for (;;) {
    const ssize_t written = writev(options.deviceFd, all, count + 1);
    if (written >= 0) return static_cast<size_t>(written) == size ? 0 : EIO;
    const int error = errno;
    if (error == EAGAIN) {
      pollfd waiting{options.deviceFd, POLLOUT, 0};
      poll(&waiting, 1, -1);
    } else if (error != EINTR) {
      return error;
    }
  }
}

// --- the face ------------------------------------------------------------------------------------------------------

Session::Session(SessionOptions options, Operations& operations)
    : state_(std::make_unique<State>(*this, std::move(options), operations)) {}

Session::~Session() {
  stop();
}

void Session::start(std::function<void(const Negotiated&)> ready) {
  State& state = *state_;
  if (state.options.initAlreadyDone) {
    state.negotiated = resumeNegotiated(state.options);
    state.initialised = true;
  }
  state.ready = std::move(ready);
  const int error = state.pool.start();
  if (error != 0) {
    state.stopFor(StopReason::kDeviceError, std::string("no thread could be started: ") + std::strerror(error));
    state.ended();
  }
}

void Session::stop() {
  state_->pool.stop();
}

const Negotiated& Session::negotiated() const {
  return state_->negotiated;
}

void Session::resubmit(RequestPtr request) {
  State* const state = request->session().state_.get();
  const OpcodeRow* row = findOpcode(request->opcode());
  // std::function wants to be copied, a request can't be.
  auto holder = std::make_shared<RequestPtr>(std::move(request));
  state->pool.post([state, row, holder] { state->dispatch(std::move(*holder), *row); });
}

bool Session::post(std::function<void()> work) {
  return state_->pool.post(std::move(work));
}

uint64_t Session::requestCount(uint32_t opcode) const {
  return opcode < kOpcodeLimit ? state_->counts[opcode].load(std::memory_order_relaxed) : 0;
}

}  // namespace siteswap::fuse
