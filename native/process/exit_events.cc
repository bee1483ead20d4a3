#include "process/exit_events.h"

#include <arpa/inet.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "process/pidfd.h"

namespace siteswap::process {
namespace {

constexpr int kBufferBytes = 1 << 20;
constexpr size_t kEventAt = NLMSG_HDRLEN + sizeof(cn_msg);
// PROC_EVENT_EXIT; a number of the header's enum, whose place has moved between kernels.
constexpr uint32_t kExit = 0x80000000;
constexpr size_t kDataAt = kEventAt + offsetof(proc_event, event_data);

// event_data.exit, which the header names in C only.
struct Exit {
  int32_t pid, tgid;
  uint32_t code;
};

// Lets through exits of main threads only: a busy host starts and ends thousands of processes a second.
bool filterExits(int fd) {
  constexpr auto kPidAt = static_cast<uint32_t>(kDataAt + offsetof(Exit, pid));
  constexpr auto kGroupAt = static_cast<uint32_t>(kDataAt + offsetof(Exit, tgid));
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(kEventAt + offsetof(proc_event, what))),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohl(kExit), 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kPidAt),
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kGroupAt),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_X, 0, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
  };
  const sock_fprog program{.len = sizeof code / sizeof *code, .filter = code};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

bool subscribe(int fd) {
  // A netlink header, a connector message, and the operation as its data.
  alignas(nlmsghdr) char request[NLMSG_HDRLEN + sizeof(cn_msg) + sizeof(proc_cn_mcast_op)] = {};
  nlmsghdr header{};
  header.nlmsg_len = sizeof request;
  header.nlmsg_type = NLMSG_DONE;
  const uint32_t id[2] = {CN_IDX_PROC, CN_VAL_PROC};
  const uint16_t length = sizeof(proc_cn_mcast_op);
  const proc_cn_mcast_op operation = PROC_CN_MCAST_LISTEN;
  char* const message = request + NLMSG_HDRLEN;
  std::memcpy(request, &header, sizeof header);
  std::memcpy(message + offsetof(cn_msg, id), id, sizeof id);
  std::memcpy(message + offsetof(cn_msg, len), &length, sizeof length);
  std::memcpy(message + sizeof(cn_msg), &operation, sizeof operation);
  return send(fd, request, sizeof request, 0) == static_cast<ssize_t>(sizeof request);
}

// Who may not listen is told so by an answer, on kernels that answer at all; in another namespace by silence. A child
// of ours is the proof.
bool works(ExitEvents& events) {
  const pid_t child = startAndReapChild(nullptr);
  bool seen = false;
  // The event comes just after the reaping.
  pollfd waiting{.fd = events.fd(), .events = POLLIN, .revents = 0};
  while (child > 0 && !seen && poll(&waiting, 1, 200) > 0) {
    events.drain([&](pid_t pid, ExitStatus) { seen = seen || pid == child; });
  }
  return seen;
}

}  // namespace

std::unique_ptr<ExitEvents> ExitEvents::open() {
  const int fd = socket(PF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR);
  if (fd < 0) return nullptr;
  std::unique_ptr<ExitEvents> events(new ExitEvents(fd));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = CN_IDX_PROC;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kBufferBytes, sizeof kBufferBytes);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return nullptr;
  if (!filterExits(fd) || !subscribe(fd) || !works(*events)) return nullptr;
  return events;
}

ExitEvents::~ExitEvents() {
  close(fd_);
}

void ExitEvents::drain(const std::function<void(pid_t, ExitStatus)>& onExit) {
  for (;;) {
    char bytes[1024];
    sockaddr_nl from{};
    socklen_t fromSize = sizeof from;
    const ssize_t size =
        recvfrom(fd_, bytes, sizeof bytes, MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&from), &fromSize);
    // ENOBUFS: some were lost, and what comes next is good again.
    if (size < 0 && (errno == EINTR || errno == ENOBUFS)) continue;
    if (size < 0) return;
    // Port 0 is the kernel.
    if (from.nl_pid != 0 || static_cast<size_t>(size) < kDataAt + sizeof(Exit)) continue;
    uint32_t what;
    std::memcpy(&what, bytes + kEventAt + offsetof(proc_event, what), sizeof what);
    if (what != kExit) continue;
    Exit exit;
    std::memcpy(&exit, bytes + kDataAt, sizeof exit);
    onExit(exit.tgid, decodeStatus(static_cast<int>(exit.code)));
  }
}

}  // namespace siteswap::process
