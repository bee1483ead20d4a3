// Who is asking, what they see, and who has to wait.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "overlay/overlay.h"
#include "sys/clock.h"

namespace siteswap::overlay {

namespace {

constexpr size_t kMostInterrupted = 64;
constexpr size_t kMostEndedPins = 4096;
// A pass over /proc that is not complete met a process that ended in these very microseconds.
constexpr int kMostOrphanPasses = 3;
constexpr int64_t kSettleMs = 100;
constexpr int64_t kLeaseCheckMs = 100;

int64_t nowMs() {
  return sys::realtimeNs() / 1'000'000;
}

}  // namespace

void Overlay::setPin(Known& known, std::optional<uint64_t> generation, PinReason reason) {
  if (known.pin) uncount(*known.pin, &PinCounts::processes);
  known.pin = generation;
  known.reason = reason;
  if (generation) {
    ++pinCounts_[*generation].processes;
    known.pinnedAtMs = nowMs();
  }
}

void Overlay::uncount(uint64_t generation, size_t PinCounts::*kind) {
  const auto at = pinCounts_.find(generation);
  --(at->second.*kind);
  if (at->second.processes == 0 && at->second.ended == 0) pinCounts_.erase(at);
}

void Overlay::noteEnded(const Layout& layout, uint64_t generation) {
  forgetEnded(layout);
  endedPins_[layout] = {generation, ++endedStamp_};
  ++pinCounts_[generation].ended;
}

void Overlay::forgetEnded(const Layout& layout) {
  const auto at = endedPins_.find(layout);
  if (at == endedPins_.end()) return;
  uncount(at->second.generation, &PinCounts::ended);
  endedPins_.erase(at);
}

void Overlay::processEnded(const process::ProcessPtr& process) {
  {
    std::lock_guard lock(knownMutex_);
    const auto at = known_.find(process->pid);
    if (at == known_.end() || !isSame(at->second.process, process)) return;
    const Known& known = at->second;
    // What a member forked goes where its transaction goes, and does not stay where the member came from.
    if (known.pin && !known.member && known.program.hasLayout()) noteEnded(known.program.layout, *known.pin);
    setPin(at->second, std::nullopt, PinReason::kListed);
    known_.erase(at);
  }
  if (mustSettle()) adoptForks();
}

bool Overlay::mustSettle() {
  std::shared_lock lock(viewsMutex_);
  const uint64_t head = head_->generation();
  std::lock_guard knownLock(knownMutex_);
  // With the last process of an old generation that generation goes, unless one that it forked lives on.
  const bool isNeeded = endedPins_.size() > kMostEndedPins ||
                        std::any_of(pinCounts_.begin(), pinCounts_.end(),
                                    [&](const auto& item) { return item.first != head && item.second.processes == 0; });
  const int64_t now = nowMs();
  if (!isNeeded || (now - settledMs_ < kSettleMs && now >= settledMs_)) return false;
  settledMs_ = now;
  return true;
}

// Pins what was forked from pinned processes and did not ask for anything yet, before it matters: once HEAD has moved,
// what they would ask for differs from what the kernel has cached. Until it is certain that nobody was overlooked,
// those who have ended count as if they lived: their generation is a view, and the fork that asks finds where it
// belongs.
void Overlay::adoptForks() {
  process::OrphanScan scan;
  for (int i = 0; i < kMostOrphanPasses; ++i) {
    std::map<Layout, uint64_t> pinned;
    uint64_t stamp;
    {
      std::lock_guard lock(knownMutex_);
      stamp = endedStamp_;
      for (const auto& [layout, ended] : endedPins_) pinned[layout] = ended.generation;
      for (const auto& [pid, known] : known_) {
        if (known.pin && !known.member && known.program.hasLayout()) pinned[known.program.layout] = *known.pin;
      }
    }
    if (pinned.empty()) return;
    const std::vector<process::RunningProgram> forks = scan.pass();
    bool isComplete = scan.isComplete();
    for (const process::RunningProgram& fork : forks) {
      const auto pin = pinned.find(fork.program.layout);
      if (pin == pinned.end()) continue;
      const process::ProcessPtr process = processes_.ofPid(fork.pid);
      if (!process || process->startTicks != fork.startTicks || process->ended()) {
        isComplete = false;  // what it may have forked meanwhile is an orphan now
        continue;
      }
      bool isNew = false;
      {
        std::lock_guard lock(knownMutex_);
        Known& known = knownOf(process, fork.program, isNew);
        if (!isNew) continue;
        known.hasListed = true;
        setPin(known, pin->second, PinReason::kInherited);
      }
      processes_.watchEnd(process, [this, process] { processEnded(process); });
    }
    if (!isComplete) continue;
    std::lock_guard lock(knownMutex_);
    std::vector<Layout> settled;
    for (const auto& [layout, ended] : endedPins_) {
      if (ended.stamp <= stamp) settled.push_back(layout);
    }
    for (const Layout& layout : settled) forgetEnded(layout);
    return;
  }
}

// A fork whose parent is gone: whose memory does it have? (While the parent lives, it knows better than any sibling: a
// server that has not looked itself forks workers that may each be of another generation.)
void Overlay::findRelatives(const process::ProcessPtr& process, TxnPtr& member, Inherited& inherited) {
  std::optional<process::Program> program = process->program();
  if (!program || !program->forkedNotExeced || !program->hasLayout()) return;
  process::ProcessPtr oldest = process;
  for (size_t depth = 0; depth < kMostAncestors; ++depth) {
    const process::ProcessPtr parent = processes_.ofPid(oldest->currentParent());
    const std::optional<process::Program> its = parent ? parent->program() : std::nullopt;
    if (!its || its->layout != program->layout) break;
    if (!its->forkedNotExeced) return;
    oldest = parent;
  }
  std::lock_guard lock(knownMutex_);
  for (const auto& [pid, known] : known_) {
    if (known.program.layout != program->layout || isSame(known.process, process)) continue;
    if (known.member && !known.member->detached) member = known.member;
    if (known.pin) inherited = {known.pin, known.process};
  }
  if (inherited.pin || member) return;
  if (const auto at = endedPins_.find(program->layout); at != endedPins_.end()) {
    inherited.pin = at->second.generation;
  }
}

void Overlay::expireLeases() {
  if (options_.pin != PinPolicy::kLease) return;
  std::lock_guard lock(knownMutex_);
  const int64_t now = nowMs();
  if (now - leasesCheckedMs_ < kLeaseCheckMs && now >= leasesCheckedMs_) return;
  leasesCheckedMs_ = now;
  for (auto& [pid, known] : known_) {
    if (known.pin && now - known.pinnedAtMs > options_.leaseSeconds * 1000) {
      setPin(known, std::nullopt, PinReason::kListed);
    }
  }
}

Overlay::Known& Overlay::knownOf(const process::ProcessPtr& process, const std::optional<process::Program>& program,
                                 bool& isNew) {
  Known& known = known_[process->pid];
  isNew = !isSame(known.process, process);
  // The same process, but another program: what its predecessor had loaded is gone.
  const bool isAnother = !isNew && program && process::isAnotherProgram(known.program, *program);
  if (isNew || isAnother) {
    setPin(known, std::nullopt, PinReason::kListed);
    DroppedPtr dropped = isAnother ? known.dropped : nullptr;
    known = Known{};
    known.process = process;
    known.dropped = std::move(dropped);
  }
  if (program) known.program = *program;
  return known;
}

bool Overlay::mustReadProgram(const process::ProcessPtr& process) {
  bool hasToken;
  {
    std::shared_lock lock(viewsMutex_);
    hasToken = std::any_of(txns_.begin(), txns_.end(),
                           [](const auto& item) { return !item.second->detached && !item.second->token.empty(); });
  }
  std::lock_guard lock(knownMutex_);
  const auto at = known_.find(process->pid);
  if (at == known_.end() || !isSame(at->second.process, process)) return true;
  const Known& known = at->second;
  // A shell may have exported a token and replaced itself by a program that is a member then.
  if (hasToken && !known.member) return true;
  // A fork may have looked something up on its way to exec.
  return known.pin && known.program.forkedNotExeced;
}

uint64_t Overlay::generationOf(const Committed& directory) const {
  if (!directory) return head_->generation();
  const std::string path = directory.path();
  const uint64_t ino = directory.entry().ino;
  const auto shows = [&](const Manifest* manifest) {
    const Committed found = Committed{manifest, 0}.descendant(path);
    return found && found.entry().ino == ino;
  };
  if (!shows(head_)) {
    for (auto at = manifests_.rbegin(); at != manifests_.rend(); ++at) {
      if (shows(at->second.get())) return at->first;
    }
  }
  return head_->generation();
}

bool Overlay::identify(fuse::RequestPtr& request, Asks asks, Caller& caller, const Committed& listed) {
  const bool lists = asks == Asks::kListing, mayWait = asks == Asks::kAttributes;
  {
    std::shared_lock lock(viewsMutex_);
    caller = {};
    caller.viewEpoch = viewEpoch_;
    // With one view alive it does not matter who asks; what is pinned must be known for the next commit.
    if (!lists && !severalViews()) return true;
  }
  process::ProcessPtr process = processes_.ofThread(static_cast<pid_t>(request->tid()));
  if (!process) return true;
  expireLeases();
  if (mustSettle()) {
    request->resign();
    adoptForks();
  }
  std::optional<process::Program> program;
  if (lists || mustReadProgram(process)) program = process->program();
  for (;;) {
    Views views;
    uint64_t membershipEpoch;
    {
      std::shared_lock lock(viewsMutex_);
      caller = {};
      caller.process = process;
      caller.viewEpoch = viewEpoch_;
      membershipEpoch = membershipEpoch_;
      for (const auto& [id, txn] : txns_) {
        if (!txn->detached) views.open.push_back(txn);
      }
      views.observers = observers_;
    }
    bool isNew = false, checked = false;
    {
      std::lock_guard lock(knownMutex_);
      checked = knownOf(process, program, isNew).checkedEpoch == membershipEpoch;
    }
    if (isNew) {
      processes_.watchEnd(process, [this, process] { processEnded(process); });
    }
    if (!checked) {
      auto [member, observer, inherited] = findMembership(*request, process, views);
      const bool belongs = member || observer;
      if (!belongs && !inherited.pin && program && program->forkedNotExeced) findRelatives(process, member, inherited);
      // Forked from an installer's ancestor, which may be about to move to what was installed: it waits as that does.
      if (mayWait && !belongs && !member && inherited.from &&
          !passBarrier(request, views.open, inherited.from, false)) {
        return false;
      }
      std::lock_guard lock(knownMutex_);
      Known& known = known_[process->pid];
      if (!isSame(known.process, process)) continue;
      known.checkedEpoch = membershipEpoch;
      if (member) known.member = member;
      known.observer = observer;
      if (inherited.pin && !known.pin && !known.hasListed) {
        setPin(known, inherited.pin, PinReason::kInherited);
        known.hasListed = true;
      }
    }
    {
      std::shared_lock viewsLock(viewsMutex_);
      if (viewEpoch_ != caller.viewEpoch) continue;
      std::lock_guard lock(knownMutex_);
      Known& known = known_[process->pid];
      if (!isSame(known.process, process)) continue;
      if (known.observer && known.observer->over) known.observer = nullptr;
      if (known.observer) {
        caller.isObserver = true;
        caller.member = known.observer->txn;
        if (!caller.member) caller.pin = known.observer->generation;
        return true;
      }
      if (known.member && known.member->detached) known.member = nullptr;
      if (known.member) {
        caller.member = known.member;
        return true;
      }
      caller.pin = known.pin;
      caller.isNew = !known.hasListed;
    }
    // The barrier: whoever comes new while an installer that has ended is not decided yet waits for the decision, and
    // so do the installer's own ancestors. Is its process alive, right now? An exit event may come too late: a shell
    // starts its next command within microseconds.
    if (mayWait && !passBarrier(request, views.open, process, caller.isNew)) return false;
    if (!lists) return true;
    bool isLate = false;
    {
      std::shared_lock viewsLock(viewsMutex_);
      if (viewEpoch_ != caller.viewEpoch) continue;
      std::lock_guard lock(knownMutex_);
      Known& known = known_[process->pid];
      if (!isSame(known.process, process)) continue;
      known.hasListed = true;
      if (!known.pin && options_.pin != PinPolicy::kNone) {
        const uint64_t generation = generationOf(listed);
        isLate = generation != head_->generation();
        setPin(known, generation, PinReason::kListed);
      }
      caller.pin = known.pin;
    }
    // HEAD has moved since it walked there, and the kernel keeps names for everybody that this process is not to see.
    if (isLate) {
      std::unique_lock lock(viewsMutex_);
      refreshKernelRoot();
    }
    return true;
  }
}

bool Overlay::passBarrier(fuse::RequestPtr& request, const std::vector<TxnPtr>& open,
                          const process::ProcessPtr& process, bool mustWait) {
  for (const TxnPtr& txn : open) {
    if (!txn->root || !txn->root->ended()) continue;
    const bool isAncestor = std::any_of(txn->ancestors.begin(), txn->ancestors.end(),
                                        [&](const auto& ancestor) { return isSame(ancestor, process); });
    if ((mustWait || isAncestor) && park(request, txn)) return false;
  }
  return true;
}

Overlay::Belonging Overlay::findMembership(fuse::Request& request, const process::ProcessPtr& process,
                                           const Views& views) {
  Belonging found;
  const auto& open = views.open;
  process::ProcessPtr at = process;
  bool forkedSoFar = true;
  for (size_t depth = 0; at && depth < kMostAncestors; ++depth) {
    for (const ObserverPtr& observer : views.observers) {
      if (isSame(observer->root, at)) found.observer = observer;
    }
    for (const TxnPtr& txn : open) {
      if (isSame(txn->root, at)) found.member = txn;
    }
    {
      std::lock_guard lock(knownMutex_);
      const auto known = known_.find(at->pid);
      if (known != known_.end() && isSame(known->second.process, at)) {
        const Known& its = known->second;
        if (its.observer && !its.observer->over) found.observer = its.observer;
        if (!found.member && its.member && !its.member->detached) found.member = its.member;
        // A fork that did not exec has its parent's modules in memory: it goes on with its parent's generation.
        if (forkedSoFar && !found.inherited.pin && at != process) found.inherited = {its.pin, at};
      }
    }
    if (found.member || found.observer) return found;
    forkedSoFar = forkedSoFar && at->isForkedNotExecedNow();
    if (open.empty() && views.observers.empty() && !forkedSoFar) return found;
    const pid_t parent = at->currentParent();
    if (parent < 1) break;
    at = processes_.ofPid(parent);
  }
  const bool withToken = std::any_of(open.begin(), open.end(), [](const TxnPtr& txn) { return !txn->token.empty(); });
  if (!withToken) return found;
  // Reading an environment takes the process's mmap_lock, which it may hold while it waits for a page from us.
  request.resign();
  const auto token = process::readEnvironmentVariable(process->pid, "SITESWAP_TRANSACTION");
  if (!token || token->empty()) return found;
  for (const TxnPtr& txn : open) {
    if (txn->token == *token) found.member = txn;
  }
  return found;
}

bool Overlay::wasInterrupted(const fuse::Request& request) {
  const std::pair<const fuse::Session*, uint64_t> wanted{&request.session(), request.unique()};
  return std::find(interrupted_.begin(), interrupted_.end(), wanted) != interrupted_.end();
}

bool Overlay::park(fuse::RequestPtr& request, const TxnPtr& txn) {
  std::lock_guard lock(parkMutex_);
  if (!txn->barrier || shuttingDown_) return false;
  if (wasInterrupted(*request)) {
    request->replyError(EINTR);
    request.reset();
    return true;
  }
  parked_.push_back({std::move(request), txn});
  return true;
}

void Overlay::unpark(const TxnPtr& txn) {
  std::vector<fuse::RequestPtr> ready;
  {
    std::lock_guard lock(parkMutex_);
    txn->barrier = false;
    for (Parked& parked : parked_) {
      if (parked.txn == txn) ready.push_back(std::move(parked.request));
    }
    std::erase_if(parked_, [](const Parked& parked) { return parked.request == nullptr; });
  }
  for (auto& request : ready) fuse::Session::resubmit(std::move(request));
}

std::vector<fuse::RequestPtr> Overlay::takeWaiting(const std::function<bool(const fuse::Request&)>& isMeant) {
  std::vector<fuse::RequestPtr> taken;
  std::erase_if(parked_, [&](Parked& parked) {
    if (!isMeant(*parked.request)) return false;
    taken.push_back(std::move(parked.request));
    return true;
  });
  for (auto at = deciding_.begin(); at != deciding_.end();) {
    if (!isMeant(*at->second)) {
      ++at;
      continue;
    }
    taken.push_back(std::move(at->second));
    at = deciding_.erase(at);
  }
  return taken;
}

void Overlay::interrupt(fuse::Session& session, uint64_t unique) {
  std::vector<fuse::RequestPtr> waiting;
  {
    std::lock_guard lock(parkMutex_);
    waiting = takeWaiting([&](const fuse::Request& r) { return &r.session() == &session && r.unique() == unique; });
    // Not parked: it may be about to be, on another thread.
    if (waiting.empty()) {
      if (interrupted_.size() == kMostInterrupted) interrupted_.erase(interrupted_.begin());
      interrupted_.emplace_back(&session, unique);
    }
  }
  for (auto& request : waiting) request->replyError(EINTR);
}

void Overlay::shutDown() {
  {
    // Their end is of no matter any more: the session, which would tell the kernel, is about to go.
    std::unique_lock lock(viewsMutex_);
    for (const ObserverPtr& observer : observers_) observer->over = true;
    observers_.clear();
  }
  std::vector<fuse::RequestPtr> waiting;
  {
    std::lock_guard lock(parkMutex_);
    shuttingDown_ = true;
    waiting = takeWaiting([](const fuse::Request&) { return true; });
  }
  for (auto& request : waiting) request->replyError(EINTR);
}

void Overlay::release(const fuse::Session& session) {
  std::vector<fuse::RequestPtr> waiting;
  {
    std::lock_guard lock(parkMutex_);
    waiting = takeWaiting([&](const fuse::Request& request) { return &request.session() == &session; });
    std::erase_if(interrupted_, [&](const auto& interrupted) { return interrupted.first == &session; });
  }
  for (auto& request : waiting) request->replyError(EINTR);
}

uint64_t Overlay::parkedCount() {
  std::lock_guard lock(parkMutex_);
  return parked_.size() + deciding_.size();
}

std::vector<PinInfo> Overlay::pins() {
  expireLeases();
  std::lock_guard lock(knownMutex_);
  std::vector<PinInfo> pins;
  for (const auto& [pid, known] : known_) {
    if (known.pin) pins.push_back({pid, *known.pin, known.pinnedAtMs, known.reason});
  }
  return pins;
}

void Overlay::moveToHead(const TxnPtr& txn) {
  const uint64_t generation = head_->generation();
  std::lock_guard lock(knownMutex_);
  for (auto& [pid, item] : known_) {
    Known& known = item;  // a structured binding can't be captured before C++20's later compilers
    const bool isAncestor = std::any_of(txn->ancestors.begin(), txn->ancestors.end(),
                                        [&](const auto& ancestor) { return isSame(ancestor, known.process); });
    if ((isAncestor || known.member == txn) && known.pin) {
      setPin(known, generation, PinReason::kMoved);
    }
  }
}

std::vector<int> Overlay::detach(const TxnPtr& txn, const std::optional<Refusal>& refusal) {
  txn->detached = true;
  // From now on it is as the mount's root, but for that nothing of its attributes is kept.
  forgetOwnRoot(*txn->tree);
  if (refusal) ownRoots_.drop(txn->tree->ownRoot());
  DroppedPtr dropped;
  if (refusal) dropped = std::make_shared<Dropped>(Dropped{txn->id, refusal->quietMs, nowMs()});
  std::vector<int> refused;
  std::lock_guard lock(knownMutex_);
  for (auto& [pid, known] : known_) {
    if (known.member != txn) continue;
    known.member = nullptr;
    if (!refusal || known.process->ended() || (refusal->exceptRoot && isSame(known.process, txn->root))) continue;
    known.dropped = dropped;
    refused.push_back(pid);
  }
  return refused;
}

bool Overlay::worksInDropped(const process::ProcessPtr& process) {
  {
    std::lock_guard lock(knownMutex_);
    if (std::none_of(known_.begin(), known_.end(), [](const auto& item) { return item.second.dropped != nullptr; })) {
      return false;
    }
  }
  process::ProcessPtr at = process;
  for (size_t depth = 0; at && depth < kMostAncestors; ++depth) {
    std::string line;
    bool isRefused = false;
    {
      std::lock_guard lock(knownMutex_);
      const auto found = known_.find(at->pid);
      if (found != known_.end() && isSame(found->second.process, at) && found->second.dropped) {
        Dropped& dropped = *found->second.dropped;
        const int64_t now = nowMs();
        isRefused = !dropped.quietMs || now - dropped.latestMs < *dropped.quietMs;
        if (isRefused) dropped.latestMs = now;
        if (isRefused && !std::exchange(dropped.isTold, true)) {
          line = "process " + std::to_string(process->pid) + " may change nothing: it worked in transaction " +
                 std::to_string(dropped.transaction) + ", which was dropped";
        }
      }
    }
    if (!line.empty()) events_.log(line);
    if (isRefused) return true;
    const pid_t parent = at->currentParent();
    if (parent < 1) return false;
    at = processes_.ofPid(parent);
  }
  return false;
}

std::vector<int> Overlay::closeTxn(const TxnPtr& txn, const std::optional<Refusal>& refusal) {
  txns_.erase(txn->id);
  closedTxns_.push_back(txn);
  std::erase_if(observers_, [&](const ObserverPtr& observer) {
    if (observer->txn == txn) observer->over = true;
    return observer->txn == txn;
  });
  return detach(txn, refusal);
}

Overlay::TxnPtr Overlay::memberInCommitted(fuse::RequestPtr& request) {
  {
    std::shared_lock lock(viewsMutex_);
    if (!hasMembers()) return nullptr;
  }
  Caller caller;
  identify(request, Asks::kName, caller);
  return caller.member;
}

}  // namespace siteswap::overlay
