#include "fuse/mount.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "sys/helper_program.h"
#include "sys/unique_fd.h"

namespace siteswap::fuse {
namespace {

constexpr const char* kDevice = "/dev/fuse";
constexpr const char* kType = "fuse.siteswap";
constexpr const char* kSubtype = "siteswap";

int failed(const std::string& what, int error, std::string& text) {
  text = what + ": " + std::strerror(error);
  return -error;
}

int mountAsRoot(const std::string& target, const std::string& source, bool allowOther, std::string& error) {
  sys::UniqueFd device(open(kDevice, O_RDWR | O_CLOEXEC));
  if (!device) return failed(std::string("open ") + kDevice, errno == ENOENT ? ENODEV : errno, error);
  std::string data = "fd=" + std::to_string(device.get()) + ",rootmode=40000,user_id=" + std::to_string(geteuid()) +
                     ",group_id=" + std::to_string(getegid()) + ",default_permissions";
  if (allowOther) data += ",allow_other";
  if (mount(source.c_str(), target.c_str(), kType, MS_NODEV, data.c_str()) != 0) {
    return failed("mount " + target, errno, error);
  }
  return device.release();
}

// Commas and backslashes would end fusermount's option.
std::string escaped(const std::string& value) {
  std::string out;
  for (const char c : value) {
    if (c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

// fusermount3 belongs to fuse3; older distributions have only fusermount, which takes the same options.
sys::HelperResult runFusermount(std::vector<std::string> arguments, bool receiveFd) {
  for (const char* program : {"fusermount3", "fusermount"}) {
    arguments[0] = program;
    sys::HelperResult result = sys::runHelper(arguments, receiveFd);
    if (result.spawnError != ENOENT) return result;
  }
  sys::HelperResult missing;
  missing.spawnError = ENODEV;
  missing.complaint = "fusermount3 is not installed (package fuse3)";
  return missing;
}

// fusermount tells errors by text only.
int errnoOf(const sys::HelperResult& result) {
  if (result.spawnError != 0) return result.spawnError;
  for (const int candidate : {EBUSY, ENOENT, ENOTDIR, EACCES, EINVAL, ENODEV}) {
    if (result.complaint.find(std::strerror(candidate)) != std::string::npos) return candidate;
  }
  return EPERM;
}

int failedHelper(const std::string& what, const sys::HelperResult& result, std::string& error) {
  const int code = errnoOf(result);
  error = what + ": " + (result.complaint.empty() ? std::strerror(code) : result.complaint);
  return -code;
}

int mountByHelper(const std::string& target, const std::string& source, bool allowOther, std::string& error) {
  std::string options = "fsname=" + escaped(source) + ",subtype=" + kSubtype + ",default_permissions";
  if (allowOther) options += ",allow_other";
  sys::HelperResult result = runFusermount({"", "-o", options, "--", target}, true);
  sys::UniqueFd device(result.receivedFd);
  if (!result.succeeded() || !device) return failedHelper("mount " + target, result, error);
  return device.release();
}

}  // namespace

int mountFuse(const std::string& target, const std::string& source, bool allowOther, std::string& error) {
  return geteuid() == 0 ? mountAsRoot(target, source, allowOther, error)
                        : mountByHelper(target, source, allowOther, error);
}

int unmountFuse(const std::string& target, bool lazy, std::string& error) {
  if (geteuid() == 0) {
    if (umount2(target.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0) return 0;
    return failed("unmount " + target, errno, error);
  }
  std::vector<std::string> arguments = {"", "-u"};
  if (lazy) arguments.emplace_back("-z");
  arguments.insert(arguments.end(), {"--", target});
  const sys::HelperResult result = runFusermount(std::move(arguments), false);
  return result.succeeded() ? 0 : failedHelper("unmount " + target, result, error);
}

}  // namespace siteswap::fuse
