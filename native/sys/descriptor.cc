#include "sys/descriptor.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace siteswap::sys {
namespace {

struct Message {
  Message() {
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
  }
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
};

}  // namespace

int sendDescriptor(int socket, int fd) {
  Message message;
  cmsghdr* control = CMSG_FIRSTHDR(&message.header);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(control), &fd, sizeof fd);
  ssize_t size;
  do {
    size = ::sendmsg(socket, &message.header, MSG_NOSIGNAL);
  } while (size < 0 && errno == EINTR);
  return size < 0 ? -1 : 0;
}

int receiveDescriptor(int socket) {
  Message message;
  ssize_t size;
  do {
    size = ::recvmsg(socket, &message.header, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return -1;
  const cmsghdr* control = size == 0 ? nullptr : CMSG_FIRSTHDR(&message.header);
  if (control == nullptr || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS ||
      control->cmsg_len != CMSG_LEN(sizeof(int))) {
    errno = EBADMSG;
    return -1;
  }
  int fd;
  std::memcpy(&fd, CMSG_DATA(control), sizeof fd);
  return fd;
}

}  // namespace siteswap::sys
