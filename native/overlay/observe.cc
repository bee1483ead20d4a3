// Observers: processes that look at a view, and change nothing.
#include <cerrno>

#include "overlay/overlay.h"

namespace siteswap::overlay {

int Overlay::observe(const ViewName& view, int pid) {
  auto observer = std::make_shared<Observer>();
  observer->root = processes_.ofPid(pid);
  if (!observer->root) return ESRCH;
  if (!view.isTransaction) {
    observer->generation = view.number;
    if (manifestOf(view.number) == nullptr) return ENOENT;
  }
  {
    std::unique_lock lock(viewsMutex_);
    if (view.isTransaction) {
      const auto at = txns_.find(static_cast<uint32_t>(view.number));
      if (at == txns_.end()) return ENOENT;
      observer->txn = at->second;
    }
    observers_.push_back(observer);
    ++viewEpoch_;
    ++membershipEpoch_;
    refreshKernelRoot();
  }
  processes_.watchEnd(observer->root, [this, observer] { endObservation(observer); });
  return 0;
}

void Overlay::endObservation(const ObserverPtr& observer) {
  std::unique_lock lock(viewsMutex_);
  observer->over = true;
  if (std::erase(observers_, observer) == 0) return;
  ++viewEpoch_;
  refreshKernelRoot();
}

bool Overlay::refuseObserver(fuse::RequestPtr& request) {
  {
    std::shared_lock lock(viewsMutex_);
    if (observers_.empty()) return false;
  }
  Caller caller;
  if (!identify(request, Asks::kAttributes, caller)) return true;
  if (!caller.isObserver) return false;
  request->replyError(EROFS);
  return true;
}

}  // namespace siteswap::overlay
