// What the sandbox's first process and CMD before its exec tell the supervisor, and what the supervisor asks of it:
// over a socket that keeps messages apart. When either end is gone, the other one knows by the end of the file.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace siteswap::sandbox {

struct Message {
  enum class Kind {
    kNoNamespaces,  // they could not be set up: the first process ends, nothing else has happened
    kConfined,      // `status`: Landlock's version; CMD is about to be executed
    kFailed,        // `text`: why there is no sandbox to execute CMD in
    kNotStarted,    // `text`: why CMD can't be executed; the sandbox is as it should be
    kEnded,         // `status`: of CMD, in wait(2) format
    kAbort,         // to the first process: end CMD so that it can say where it is (SIGABRT)
  };
  Kind kind{};
  int status = 0;
  char text[200] = {};

  Message() = default;
  explicit Message(Kind theKind, int theStatus = 0, std::string_view theText = "") : kind(theKind), status(theStatus) {
    std::memcpy(text, theText.data(), std::min(theText.size(), sizeof text - 1));
  }
};

inline void sendMessage(int socket, const Message& message) {
  while (send(socket, &message, sizeof message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
}

// False when the other end is gone.
inline bool receiveMessage(int socket, Message& message) {
  ssize_t size;
  do {
    size = recv(socket, &message, sizeof message, 0);
  } while (size < 0 && errno == EINTR);
  message.text[sizeof message.text - 1] = '\0';
  return size == sizeof message;
}

}  // namespace siteswap::sandbox
