#include "sys/helper_program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "sys/descriptor.h"
#include "sys/unique_fd.h"

extern char** environ;

namespace siteswap::sys {
namespace {

// The descriptor that the helper finds its socket at.
constexpr int kChildSocket = 3;

std::string readAll(int fd) {
  std::string text;
  char chunk[512];
  for (;;) {
    const ssize_t size = read(fd, chunk, sizeof chunk);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    if (text.size() < 4096) text.append(chunk, static_cast<size_t>(size));
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text;
}

std::vector<char*> pointersTo(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

HelperResult runHelper(const std::vector<std::string>& arguments, bool receiveFd) {
  HelperResult result;
  int sockets[2] = {-1, -1};
  int pipes[2] = {-1, -1};
  if (pipe2(pipes, O_CLOEXEC) != 0 || (receiveFd && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)) {
    result.spawnError = errno;
  }
  UniqueFd ownSocket(sockets[0]), childSocket(sockets[1]), complaints(pipes[0]), childStderr(pipes[1]);
  if (result.spawnError != 0) return result;

  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::strncmp(*variable, "_FUSE_COMMFD=", 13) != 0) variables.emplace_back(*variable);
  }
  if (receiveFd) variables.push_back("_FUSE_COMMFD=" + std::to_string(kChildSocket));

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, childStderr.get(), STDERR_FILENO);
  // Onto itself it only loses close-on-exec, which is wanted too.
  if (receiveFd) posix_spawn_file_actions_adddup2(&actions, childSocket.get(), kChildSocket);
  pid_t pid = -1;
  result.spawnError = posix_spawnp(&pid, arguments[0].c_str(), &actions, nullptr, pointersTo(arguments).data(),
                                   pointersTo(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  childSocket.reset();
  childStderr.reset();
  if (result.spawnError != 0) return result;

  if (receiveFd) result.receivedFd = receiveDescriptor(ownSocket.get());
  result.complaint = readAll(complaints.get());
  while (waitpid(pid, &result.waitStatus, 0) < 0 && errno == EINTR) {
  }
  return result;
}

}  // namespace siteswap::sys
