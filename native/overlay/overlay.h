// The overlay: what each process sees, as FUSE operations.
//
// A *view* is a generation (immutable, from manifests) or an open transaction. Below the root every node belongs to
// exactly one tree, so only operations on the root itself, and changes, have to know who is asking:
//   - root, one view alive:     HEAD answers, nobody is identified, the kernel caches for ever
//   - root, several views:      the caller's view answers, under the views lock (a swap waits for the reply, and the
//   reply
//                               for the swap), with no caching where views differ
//   - a change, by a member:    goes to its transaction's tree; by anybody else: JavaScript is asked once
// No committed view's request enters JavaScript otherwise.
//
// Locks, in this order: viewsMutex_, knownMutex_, parkMutex_, Transaction::mutex_, Backing. /proc is never read under
// one.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "fuse/session.h"
#include "overlay/backing.h"
#include "overlay/later.h"
#include "overlay/live.h"
#include "overlay/merge.h"
#include "overlay/neighbours.h"
#include "overlay/own_root.h"
#include "overlay/read_ahead.h"
#include "overlay/transaction.h"
#include "process/process.h"

namespace siteswap::overlay {

enum class PinPolicy { kProcess, kNone, kLease };

struct OverlayOptions {
  int lowerFd = -1;
  std::string layersDir, manifestsDir, liveDir;
  uint64_t generation = 0;
  uint64_t firstIno = 0, inoCount = 0;
  int64_t maxMtimeNs = 0;
  PinPolicy pin = PinPolicy::kProcess;
  int64_t leaseSeconds = 0;
  bool disablePidfdInfo = false;
  bool disableExitEvents = false;
};

// What JavaScript is told. Called from any thread, without locks.
struct OverlayEvents {
  struct Writer {
    uint64_t request;
    int pid;
    uint32_t uid, gid;
    std::string op, path;
  };
  std::function<void(const Writer&)> writerAppeared;
  std::function<void(uint32_t transaction, process::ExitStatus)> rootExited;
  std::function<void(const std::string&)> log;
};

enum class PinReason {
  kListed,     // it listed the root
  kInherited,  // from the process that it was forked from
  kMoved,      // its own descendant committed
};

struct PinInfo {
  int pid;
  uint64_t generation;
  int64_t sinceMs;
  PinReason reason;
};

// For those who still work in a transaction that is aborted: they may change nothing any more.
struct Refusal {
  bool exceptRoot = false;
  // Until they have tried nothing for so long; else until they end.
  std::optional<int64_t> quietMs;
};

struct TransactionInfo {
  uint64_t base = 0;
  int rootPid = 0;
  std::vector<int> members;
  uint64_t mutations = 0;
  int64_t quietMs = 0;
  std::string state;
};

// Which tree a path call reads.
struct ViewName {
  bool isTransaction = false;
  uint64_t number = 0;
};

// An entry on the wire; "cache" means for ever, else not at all.
fuse_entry_out entryFor(const NodeAttributes& attributes, bool cacheName, bool cacheAttributes);

class Overlay : public fuse::Operations {
 public:
  Overlay(OverlayOptions options, OverlayEvents events);
  ~Overlay() override;

  // Loads HEAD. Empty or a one-line error. Before the session starts.
  std::string load();
  // The session of the mount itself. Others may serve the same processes' views: observers look on through one of their
  // own, so that they wait for none of the kernel's locks of this one.
  void attach(fuse::Session* session) { session_ = session; }
  // Answers everything that waits, so that the session can stop.
  void shutDown();
  // The same for one session, which is about to go.
  void release(const fuse::Session& session);

  // ---- control (JavaScript's threads). Errors: positive errno, 0 for success.
  int beginTransaction(uint32_t id, const std::string& directory, int rootPid, const std::string& token);
  int restoreTransaction(uint32_t id, const std::string& directory);
  int freezeTransaction(uint32_t id);  // blocks until no change is in progress
  int transactionInfo(uint32_t id, TransactionInfo& info);
  int changes(uint32_t id, std::vector<Change>& changes);
  MergeResult buildManifest(uint32_t id, uint64_t generation, uint32_t layer, const std::string& manifestPath,
                            Resolutions resolutions);
  int publish(uint64_t generation, uint32_t transaction, std::string& error);  // transaction 0: none
  // Without a refusal those who work in it go on, with work of their own. `refused`: whom it is for, of those who live.
  int abortTransaction(uint32_t id, const std::optional<Refusal>& refusal = {}, std::vector<int>* refused = nullptr);
  int releaseBarrier(uint32_t id);
  // From now on this process and its descendants see this view, read-only, and wait for nobody; until it ends.
  int observe(const ViewName& view, int pid);
  enum class Verdict { kRetry, kLive, kError };
  // kRetry: the caller is a member by now; kLive: into the live layer; kError: `errorNumber` is the answer.
  void decide(uint64_t request, Verdict verdict, int errorNumber);
  std::vector<PinInfo> pins();
  uint64_t committedViewEvents() const { return committedViewEvents_; }
  uint64_t parkedCount();
  bool hasExitEvents() const { return processes_.hasExitEvents(); }

  struct PathNode {
    NodeAttributes attributes{};
    std::string target;
  };
  struct PathEntry {
    std::string name;
    uint32_t mode;
    uint64_t ino;
  };
  int pathStat(const ViewName& view, const std::string& path, PathNode& out);
  int pathList(const ViewName& view, const std::string& path, std::vector<PathEntry>& out);
  int pathRead(const ViewName& view, const std::string& path, std::string& out);  // blocks

  // ---- fuse::Operations
  void lookup(fuse::RequestPtr) override;
  void forget(fuse::RequestPtr) override;
  void batchForget(fuse::RequestPtr) override;
  void getattr(fuse::RequestPtr) override;
  void setattr(fuse::RequestPtr) override;
  void readlink(fuse::RequestPtr) override;
  void symlink(fuse::RequestPtr) override;
  void mknod(fuse::RequestPtr) override;
  void mkdir(fuse::RequestPtr) override;
  void unlink(fuse::RequestPtr) override;
  void rmdir(fuse::RequestPtr) override;
  void rename(fuse::RequestPtr) override;
  void link(fuse::RequestPtr) override;
  void open(fuse::RequestPtr) override;
  void read(fuse::RequestPtr) override;
  void write(fuse::RequestPtr) override;
  void statfs(fuse::RequestPtr) override;
  void release(fuse::RequestPtr) override;
  void fsync(fuse::RequestPtr) override;
  void setxattr(fuse::RequestPtr) override;
  void getxattr(fuse::RequestPtr) override;
  void listxattr(fuse::RequestPtr) override;
  void removexattr(fuse::RequestPtr) override;
  void flush(fuse::RequestPtr) override;
  void readdir(fuse::RequestPtr) override;
  void readdirplus(fuse::RequestPtr) override;
  void fsyncdir(fuse::RequestPtr) override;
  void create(fuse::RequestPtr) override;
  void tmpfile(fuse::RequestPtr) override;
  void fallocate(fuse::RequestPtr) override;
  void lseek(fuse::RequestPtr) override;
  void copyFileRange(fuse::RequestPtr) override;
  void interrupt(fuse::Session& session, uint64_t unique) override;

 private:
  static constexpr size_t kMostAncestors = 64;  // of a process that are looked at

  // An engine-level transaction: the tree and who works in it.
  struct Txn {
    uint32_t id = 0;
    std::shared_ptr<Transaction> tree;
    uint64_t baseGeneration = 0;
    process::ProcessPtr root;                    // null: restored
    std::vector<process::ProcessPtr> ancestors;  // of the root, when it began
    std::string token;
    // Set under viewsMutex_. Kept, but nobody works in it any more: refused, staged or restored.
    std::atomic<bool> detached{false};
    bool barrier = true;  // parkMutex_
  };
  using TxnPtr = std::shared_ptr<Txn>;

  // Whoever looks at a view without working in it: a verifier, a shell in a refused transaction.
  struct Observer {
    process::ProcessPtr root;
    TxnPtr txn;               // null: the generation
    uint64_t generation = 0;  // else
    // Set under viewsMutex_. Its process has ended, or the transaction is gone.
    std::atomic<bool> over{false};
  };
  using ObserverPtr = std::shared_ptr<Observer>;

  // The transaction that a process worked in was dropped. Half of what it does may have gone with it: the other half,
  // if it goes on, must not become something of its own.
  struct Dropped {
    const uint32_t transaction;
    const std::optional<int64_t> quietMs;
    int64_t latestMs;     // knownMutex_; of the drop, or of a change that was refused
    bool isTold = false;  // knownMutex_
  };
  using DroppedPtr = std::shared_ptr<Dropped>;

  // What is known of a process that looked at the root.
  struct Known {
    process::ProcessPtr process;
    uint64_t checkedEpoch = 0;  // membership was looked for when membershipEpoch_ had this value
    TxnPtr member;
    ObserverPtr observer;  // goes before member
    DroppedPtr dropped;    // descendants too
    std::optional<uint64_t> pin;
    int64_t pinnedAtMs = 0;
    PinReason reason = PinReason::kListed;
    process::Program program;
    bool hasListed = false;  // this program: it does not wait at a barrier any more
  };

  // How many processes hold a generation, and how many programs whose last process we know of has ended.
  struct PinCounts {
    size_t processes = 0, ended = 0;
  };
  using Layout = decltype(process::Program::layout);

  struct Caller {
    process::ProcessPtr process;  // null: can't be seen from here
    TxnPtr member;
    std::optional<uint64_t> pin;  // else HEAD
    bool isObserver = false;      // `member` or `pin` is what it sees; it may change nothing
    bool isNew = true;            // has not listed the root yet
    uint64_t viewEpoch = 0;       // when this was found out
  };

  struct Target {
    enum Kind { kNone, kRoot, kCommitted, kTransaction, kLive } kind = kNone;
    Committed committed;
    TxnPtr txn;
    uint64_t ino = 0;
  };

  // A change in a transaction, from enter() to leave(), or of a file's live bytes (then tree is null).
  class Change_ {
   public:
    Change_() = default;
    Change_(const Change_&) = delete;
    Change_& operator=(const Change_&) = delete;
    ~Change_() {
      if (tree != nullptr) tree->leave();
    }
    std::shared_ptr<Transaction> tree;
    uint64_t ino = 0;      // of the parent, or of the file
    AskedThrough through;  // with a node when the request named that one, and not `ino`
  };

  // How a request that changes a file got there.
  enum class Reach {
    kByPath,        // the kernel can walk the path again
    kByDescriptor,  // it can't
    kByEither,      // attributes: futimens(2) and fchmod(2) look like their namesakes by path
  };

  // How many references of the kernel an answer about a node adds. None for a mount that is for looking on only: what
  // it looks at has names and stays, and when such a mount goes away, the kernel gives nothing back.
  unsigned referencesOf(const fuse::Request& request) const { return &request.session() == session_ ? 1 : 0; }

  // overlay.cc
  std::string loadManifest(uint64_t generation);    // viewsMutex_ held exclusively (or before start)
  const Manifest* manifestOf(uint64_t generation);  // loads on demand; no lock held; null on failure
  Target resolve(uint64_t nodeid);
  // Names in a transaction's own directories change through this kernel only, which keeps its cache right; in its root,
  // from its own root.
  bool mayCacheNames(const fuse::Request& request, Transaction& tree) const;
  // A change of it through this node: what the kernel keeps of it from another root is void.
  void noteReached(Transaction& tree, uint64_t nodeid);
  void keepNoNames(Transaction& tree);          // from now on; those that are kept are void
  Committed findCommitted(uint64_t ino) const;  // viewsMutex_ (or before start)
  void registerBlock(uint64_t block, const TxnPtr& txn);
  std::set<uint64_t> blocksOf(const TxnPtr& txn);
  bool severalViews() const;                        // viewsMutex_
  bool hasMembers() const;                          // viewsMutex_; of a transaction, or observers
  bool rootNameMayBeCached(std::string_view name);  // viewsMutex_
  // The root's own attributes are HEAD's in each generation's view: it is one node, whose attributes have one timeout,
  // and each walk through it would ask for them. A pinned process that sees a new time lists again, and finds its own
  // names. (A lease ends without any commit, so without a new time: there each view has its own.)
  bool rootAttributesAreHeads() const;  // viewsMutex_
  // A node as the kernel knows it where `request` came from.
  static fuse_entry_out entryBelow(const fuse::Request& request, const NodeAttributes& attributes, bool cacheName,
                                   bool cacheAttributes);
  void replyEntry(fuse::Request& request, const NodeAttributes& attributes, bool cacheName, bool cacheAttributes);
  void replyNegative(fuse::Request& request, bool cache);
  void replyAttributes(fuse::Request& request, const NodeAttributes& attributes, bool cache);
  Committed viewRoot(const Caller& caller);     // viewsMutex_; for a non-member
  void refreshKernelRoot();                     // viewsMutex_ exclusively
  void forgetOwnRoot(const Transaction& tree);  // viewsMutex_ exclusively; the attributes that the kernel keeps of it
  TxnPtr findTxn(uint32_t id);
  int takeLiveBytes(Transaction& tree);  // 0 or errno
  std::shared_ptr<Transaction> makeTree(const TxnPtr& txn, const std::string& directory, const Manifest* base);
  void sweepClosed();  // viewsMutex_ exclusively
  // It begins where the names of others' own roots are seen: from now on they differ by who asks.
  void shareOwnRoots(const Txn& txn);  // viewsMutex_ exclusively

  // lookup.cc
  void lookUpInRoot(fuse::Request& request, const Caller& caller);  // viewsMutex_
  void forgetNode(uint64_t nodeid, uint64_t count);
  void withXattrs(fuse::RequestPtr request, void (*answer)(fuse::Request&, const Xattrs&));

  // callers.cc
  enum class Asks {
    // These two never wait at a barrier: the kernel holds the directory's lock, and has asked for the attributes of the
    // root before, on its way there.
    kName,
    kListing,     // a non-member's view is pinned from now on
    kAttributes,  // or to change something
  };
  // False: the request was parked (consumed). Otherwise who asks. `listed`: what, if it is not the root.
  bool identify(fuse::RequestPtr& request, Asks asks, Caller& caller, const Committed& listed = {});
  // The newest generation that shows this directory.
  uint64_t generationOf(const Committed& directory) const;  // viewsMutex_
  // For a request for names in a committed directory: the transaction that the caller is a member of, if any; nobody is
  // identified while there is none to be a member of.
  TxnPtr memberInCommitted(fuse::RequestPtr& request);
  // identify(), then `work(caller)` under the shared views lock with the caller's view still true.
  template <class Work>
  void withView(fuse::RequestPtr request, Asks asks, Work&& work);
  // The entry of this process, for its present program. Sets isNew when nobody watches for its end yet.
  Known& knownOf(const process::ProcessPtr& process, const std::optional<process::Program>& program,
                 bool& isNew);  // knownMutex_
  bool mustReadProgram(const process::ProcessPtr& process);
  // What a fork takes over, and from whom.
  struct Inherited {
    std::optional<uint64_t> pin;
    process::ProcessPtr from;
  };
  void findRelatives(const process::ProcessPtr& process, TxnPtr& member, Inherited& inherited);
  // Whether somebody must look, now, if an old generation's ended holders have left a fork behind.
  bool mustSettle();
  void adoptForks();
  // False: the request was parked until an installer that has ended is decided.
  bool passBarrier(fuse::RequestPtr& request, const std::vector<TxnPtr>& open, const process::ProcessPtr& process,
                   bool mustWait);
  void expireLeases();
  // Whom a process belongs to by descent or by token, nearest first.
  struct Belonging {
    TxnPtr member;
    ObserverPtr observer;
    Inherited inherited;
  };
  struct Views {
    std::vector<TxnPtr> open;
    std::vector<ObserverPtr> observers;
  };
  Belonging findMembership(fuse::Request& request, const process::ProcessPtr& process, const Views& views);
  bool park(fuse::RequestPtr& request, const TxnPtr& txn);
  void unpark(const TxnPtr& txn);
  bool wasInterrupted(const fuse::Request& request);  // parkMutex_
  // Of what is parked or being decided.
  std::vector<fuse::RequestPtr> takeWaiting(const std::function<bool(const fuse::Request&)>& isMeant);  // parkMutex_
  void processEnded(const process::ProcessPtr& process);
  void setPin(Known& known, std::optional<uint64_t> generation, PinReason reason);  // knownMutex_
  void uncount(uint64_t generation, size_t PinCounts::*kind);                       // knownMutex_
  void noteEnded(const Layout& layout, uint64_t generation);                        // knownMutex_
  void forgetEnded(const Layout& layout);                                           // knownMutex_
  void moveToHead(const TxnPtr& txn);                                               // viewsMutex_ exclusively
  // Both give whom the refusal is for.
  std::vector<int> detach(const TxnPtr& txn, const std::optional<Refusal>& refusal = {});    // viewsMutex_ exclusively
  std::vector<int> closeTxn(const TxnPtr& txn, const std::optional<Refusal>& refusal = {});  // viewsMutex_ exclusively
  bool worksInDropped(const process::ProcessPtr& process);

  // observe.cc
  void endObservation(const ObserverPtr& observer);
  // True: the request was consumed, because its caller may change nothing.
  bool refuseObserver(fuse::RequestPtr& request);

  // mutate.cc
  void askPolicy(fuse::RequestPtr request, const std::string& path);
  // False: the request was consumed (answered, parked, or waits for the policy).
  bool enterDirectory(fuse::RequestPtr& request, uint64_t nodeid, std::string_view name, Change_& change);
  bool enterFile(fuse::RequestPtr& request, uint64_t nodeid, Reach reach, Change_& change);
  bool enterTree(fuse::RequestPtr& request, const TxnPtr& txn);
  bool enterAsMember(fuse::RequestPtr& request, const Target& target, const std::string& path, Change_& change);
  bool mayCacheNew(const fuse::Request& request, const Change_& change) const;
  // After a directory, or what is in it, has changed through the node `nodeid`.
  void forgetElsewhere(fuse::Request& request, const Change_& change, uint64_t nodeid);
  // Those that the kernel keeps of a directory of the base, in which a transaction's names are others from now on.
  void dropListings(fuse::Request& request, const Committed& directory);
  void forgetOther(const Change_& change);
  Transaction::Result attributesIn(const Change_& change);
  Transaction::Result setAttributesIn(const Change_& change, const AttributeChange& wanted);
  void replyCreated(fuse::Request& request, const NodeAttributes& attributes, bool cache);
  std::string pathOf(const Target& target);
  void createNode(fuse::RequestPtr request, std::string_view name, uint32_t mode, uint32_t rdev,
                  std::string_view target);
  void removeNode(fuse::RequestPtr request, bool directory);

  // live_ops.cc
  NodeAttributes shown(const Committed& node);  // with the present bytes' attributes, if it has any
  std::optional<NodeAttributes> shownChild(const Committed& directory, std::string_view name);
  // Each: true when the request was for the live layer, and is answered (or parked).
  bool createLive(fuse::RequestPtr& request, std::string_view name, uint32_t mode);
  bool removeLive(fuse::RequestPtr& request, bool directory);
  bool renameLive(fuse::RequestPtr& request);
  // The key of the directory for the live layer, or nothing when the caller's changes there are not for it.
  // `consumed`: the request was parked.
  std::optional<uint64_t> liveKey(fuse::RequestPtr& request, bool& consumed, Committed* directory);
  int adopt(const Committed& file);
  int copyBody(int bodiesFd, const std::string& temporary, const Committed& base, uint64_t keep);

  // data.cc
  Source openForReading(const Target& target, bool cachedOnly);
  std::optional<ReadAhead::Range> rangeAhead(const fuse::Request& request, const Target& target) const;
  // The body that a change writes to, with at least the first `keepBytes` of the file in it.
  int writableBody(const Change_& change, uint64_t keepBytes, FdPtr& fd);
  // After a write that ended at `end` (grow), or once the size is `end`.
  int noteWritten(const Change_& change, uint64_t end, bool grow);  // 0 or errno
  // Before bytes change: the kernel leaves that to us (HANDLE_KILLPRIV_V2). 0 or errno.
  int clearSetid(const Change_& change);
  int resize(fuse::Request& request, const Change_& change, uint64_t size);

  // listing.cc
  void listInto(fuse::RequestPtr request, bool plus);
  void listRoot(fuse::RequestPtr request, bool plus);
  // Whether the kernel may answer everybody with it from now on.
  bool mayKeepListing(const fuse::Request& request, const Committed& directory) const;
  // `generation`: of which it is the root, else 0.
  void listCommitted(fuse::Request& request, const Committed& directory, bool plus, uint64_t generation);
  // Without nodes: for a member that stands in a committed directory, where the kernel would put them in the place of
  // the nodes that others have there (and where this member may stand).
  void listTransaction(fuse::Request& request, Transaction& tree, uint64_t ino, bool plus, bool bringsNodes = true);
  void listLive(fuse::Request& request, uint64_t ino, bool plus);

  const OverlayOptions options_;
  const OverlayEvents events_;
  fuse::Session* session_ = nullptr;
  InoSource numbers_;
  Backing backing_;
  LiveLayer live_;
  OwnRoots ownRoots_;
  ReadAhead readAhead_;
  Neighbours neighbours_;
  Later later_;
  Later listingsDropped_;  // who lists may hold it up, which the others' work must not wait for

  mutable std::shared_mutex viewsMutex_;
  std::map<uint64_t, std::unique_ptr<Manifest>> manifests_;
  const Manifest* head_ = nullptr;
  std::vector<const Manifest*> denseManifests_;  // of scans: they know their numbers without an index by block
  std::map<uint32_t, TxnPtr> txns_;              // open and frozen ones
  std::vector<ObserverPtr> observers_;           // none of them over
  std::vector<TxnPtr> closedTxns_;               // the kernel may still hold nodes of theirs
  uint64_t viewEpoch_ = 1;                       // changes when a transaction begins or ends and when HEAD moves
  uint64_t membershipEpoch_ = 1;                 // changes when a transaction begins
  int64_t maxMtimeNs_;
  std::unordered_map<uint64_t, std::vector<const Manifest*>> manifestsOfBlock_;

  mutable std::shared_mutex blocksMutex_;  // leaf
  std::unordered_map<uint64_t, TxnPtr> txnOfBlock_;

  mutable std::mutex knownMutex_;
  std::unordered_map<int, Known> known_;
  std::map<uint64_t, PinCounts> pinCounts_;  // by generation; none of them 0 and 0
  // Programs whose pinned process has ended: what it forked may live on, and is found by having the same layout.
  struct EndedPin {
    uint64_t generation, stamp;
  };
  std::map<Layout, EndedPin> endedPins_;
  uint64_t endedStamp_ = 0;
  int64_t settledMs_ = 0;
  int64_t leasesCheckedMs_ = 0;

  mutable std::mutex parkMutex_;
  struct Parked {
    fuse::RequestPtr request;
    TxnPtr txn;
  };
  std::vector<Parked> parked_;
  std::map<uint64_t, fuse::RequestPtr> deciding_;
  uint64_t nextDecision_ = 1;
  std::vector<std::pair<const fuse::Session*, uint64_t>> interrupted_;  // the latest few
  bool shuttingDown_ = false;

  std::atomic<uint64_t> committedViewEvents_{0};
  process::ProcessTable processes_;  // last: its watcher's thread calls back until it is gone
};

template <class Work>
void Overlay::withView(fuse::RequestPtr request, Asks asks, Work&& work) {
  for (;;) {
    Caller caller;
    if (!identify(request, asks, caller)) return;
    std::shared_lock lock(viewsMutex_);
    if (caller.viewEpoch != viewEpoch_) continue;
    work(*request, caller);
    return;
  }
}

}  // namespace siteswap::overlay
