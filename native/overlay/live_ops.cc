// Changes that go to the live layer instead of a transaction: see live.h.
#include <cctype>
#include <cerrno>

#include "overlay/overlay.h"

namespace siteswap::overlay {

namespace {

// What CPython writes: `__pycache__`, and in it `<module>.<tag>.pyc`, first as `….pyc.<number>` (importlib's
// _write_atomic). Policy says who may; this says what, so that nothing else can ever slip past a transaction.
bool isBytecodeName(std::string_view name) {
  if (name == "__pycache__") return true;
  const size_t at = name.rfind(".pyc");
  if (at == std::string_view::npos) return false;
  std::string_view rest = name.substr(at + 4);
  if (rest.empty()) return true;
  if (rest.front() != '.' || rest.size() < 2) return false;
  rest.remove_prefix(1);
  for (const char c : rest) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) return false;
  }
  return true;
}

}  // namespace

NodeAttributes Overlay::shown(const Committed& node) {
  if (const auto present = live_.attributes(node.entry().ino)) return *present;
  return attributesOf(node);
}

std::optional<NodeAttributes> Overlay::shownChild(const Committed& directory, std::string_view name) {
  if (auto added = live_.child(LiveLayer::keyOf(directory), name)) return added;
  const Committed child = directory.child(name);
  return child ? std::optional(shown(child)) : std::nullopt;
}

int Overlay::adopt(const Committed& file) {
  if (!S_ISREG(file.entry().mode)) return EINVAL;
  return live_.adopt(file, [this](int bodiesFd, const std::string& temporary, const Committed& base, uint64_t keep) {
    return copyBody(bodiesFd, temporary, base, keep);
  });
}

std::optional<uint64_t> Overlay::liveKey(fuse::RequestPtr& request, bool& consumed, Committed* directory) {
  consumed = false;
  const Target target = resolve(request->nodeid());
  if (target.kind == Target::kLive) {
    {
      std::shared_lock lock(viewsMutex_);
      if (txns_.empty() && observers_.empty()) return target.ino;
    }
    // A member that stands in it, or had it from before: its changes are its transaction's.
    Caller caller;
    consumed = !identify(request, Asks::kAttributes, caller);
    if (consumed || caller.member || caller.isObserver) return std::nullopt;
    return target.ino;
  }
  // Nothing there, and nothing allowed to come: the usual case costs no identification.
  if (!request->goesLive && live_.isEmpty()) return std::nullopt;
  if (target.kind != Target::kCommitted && target.kind != Target::kRoot) return std::nullopt;
  Caller caller;
  if (!identify(request, Asks::kAttributes, caller)) {
    consumed = true;
    return std::nullopt;
  }
  if (caller.member || caller.isObserver) return std::nullopt;
  std::shared_lock lock(viewsMutex_);
  *directory = target.kind == Target::kRoot ? viewRoot(caller) : target.committed;
  return LiveLayer::keyOf(*directory);
}

bool Overlay::createLive(fuse::RequestPtr& request, std::string_view name, uint32_t mode) {
  bool consumed = false;
  Committed directory;
  const auto key = liveKey(request, consumed, &directory);
  if (consumed) return true;
  // In a directory of the live layer everything is live; elsewhere only what policy let through.
  if (!key || (directory && !request->goesLive)) return false;
  if (!isBytecodeName(name)) {
    request->replyError(EROFS);
    return true;
  }
  if (directory && shownChild(directory, name)) {
    request->replyError(S_ISDIR(mode) ? EEXIST : ESTALE);
    return true;
  }
  const auto made = live_.create(*key, name, mode, request->header().uid, request->header().gid);
  if (made.error != 0) {
    request->replyError(made.error);
    return true;
  }
  bool cache;
  {
    std::shared_lock lock(viewsMutex_);
    cache = inoOf(request->nodeid()) != kRootIno || rootNameMayBeCached(name);
  }
  if (S_ISDIR(mode)) {
    replyEntry(*request, made.attributes, cache, true);
  } else {
    replyCreated(*request, made.attributes, cache);
  }
  return true;
}

bool Overlay::removeLive(fuse::RequestPtr& request, bool directory) {
  bool consumed = false;
  Committed parent;
  const auto key = liveKey(request, consumed, &parent);
  if (consumed) return true;
  if (!key || !live_.child(*key, request->name())) return false;
  const int e = live_.remove(*key, request->name(), directory);
  if (e != 0) {
    request->replyError(e);
  } else {
    request->replyEmpty();
  }
  return true;
}

bool Overlay::renameLive(fuse::RequestPtr& request) {
  bool consumed = false;
  Committed directory;
  const auto key = liveKey(request, consumed, &directory);
  if (consumed) return true;
  if (!key || !live_.child(*key, request->name(0))) return false;
  const auto& arg = request->arg<fuse_rename2_in>();
  int e = 0;
  if (arg.newdir != request->nodeid()) {
    e = EXDEV;
  } else if (arg.flags != 0) {
    e = EINVAL;
  } else if (!isBytecodeName(request->name(1))) {
    e = EROFS;
  } else {
    e = live_.rename(*key, request->name(0), request->name(1));
  }
  if (e != 0) {
    request->replyError(e);
  } else {
    request->replyEmpty();
  }
  return true;
}

}  // namespace siteswap::overlay
