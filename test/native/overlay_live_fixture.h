// What readers' Pythons do: bytecode into the live layer of a Mounted.
#pragma once

#include "overlay_mounted.h"

namespace siteswap::test {

// pkg/__pycache__, as policy lets a reader make it; 0 when that fails.
inline uint64_t makeCache(Mounted& m, const Process& writer) {
  fuse_mkdir_in in{};
  in.mode = 0755;
  const uint64_t unique = m.send(FUSE_MKDIR, m.walk("pkg"), bytesOf(in, "__pycache__\0"s), writer.pid);
  const auto asked = m.nextWriter();
  if (!asked) return 0;
  m.overlay->decide(asked->request, Verdict::kLive, 0);
  const auto made = m.kernel.wait(unique);
  return made && made->error == 0 ? made->as<fuse_entry_out>().nodeid : 0;
}

inline uint64_t makeBytecode(Mounted& m, uint64_t cache, const std::string& name, const std::string& bytes,
                             const Process& writer) {
  const Reply made = m.create(cache, name, writer.pid);
  CHECK_EQ(made.error, 0);
  const uint64_t file = made.as<fuse_entry_out>().nodeid;
  CHECK_EQ(m.write(file, bytes, writer.pid).error, 0);
  return file;
}

inline int renameIn(Mounted& m, uint64_t directory, const std::string& name, const std::string& name2,
                    const Process& writer) {
  fuse_rename2_in in{};
  in.newdir = directory;
  return m.ask(FUSE_RENAME2, directory, bytesOf(in, name, '\0', name2, '\0'), writer.pid).error;
}

}  // namespace siteswap::test
