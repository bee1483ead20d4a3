// overlay/transaction against a naive model: a map from path to node, shared by hard links.
#include <linux/fs.h>
#include <sys/xattr.h>

#include <atomic>
#include <thread>

#include "fuse/protocol.h"
#include "overlay_model.h"

using namespace siteswap::test;

TEST(random_operations_match_the_model) {
  Random random;
  const int rounds = 24;
  for (int round = 0; round < rounds; ++round) {
    World world(random, static_cast<unsigned>(10 + random(120)));
    // Looking at everything gives everything a number: in some rounds nobody looks before the end.
    const int interval = round % 3 == 0 ? 25 : round % 3 == 1 ? 200 : 100000;
    for (int i = 1; i <= 400; ++i) {
      world.step();
      if (i % interval != 0) continue;
      if (!world.matches(*world.tree, "the transaction")) return;
      world.checkNumbers();
    }
    if (round % 2 == 0) {
      auto second = world.restored();
      if (!world.matches(*second, "restored unseen")) return;
      continue;
    }
    if (!world.matches(*world.tree, "the transaction at the end")) return;
    const Tree first = treeOf(world.store, *world.tree);
    auto second = world.restored();
    const Tree again = treeOf(world.store, *second);
    CHECK(sameTrees(
        first, again,
        [](const Seen& a, const Seen& b) {
          // A written file's time is its body's after a restart.
          return sameToReader(a, b) && a.ino == b.ino && a.nlink == b.nlink &&
                 std::abs(a.mtimeNs - b.mtimeNs) < 1'000'000'000;
        },
        "restored"));
    // And it goes on where it was.
    world.tree = std::move(second);
    for (int i = 0; i < 50; ++i) world.step();
    if (!world.matches(*world.tree, "after going on")) return;
    auto third = world.restored();
    if (!world.matches(*third, "restored twice")) return;
  }
}

TEST(changes_match_the_model) {
  Random random;
  for (int round = 0; round < 30; ++round) {
    World world(random, 60);
    const Tree base = world.store.tree(world.store.root(0));
    for (int i = 0; i < 15; ++i) world.step();
    const std::vector<Change> changes = changesOf(*world.tree);
    const Tree now = world.model->tree();
    std::map<std::string, std::set<int>> kinds;
    for (const Change& change : changes) {
      CHECK(kinds[change.path].insert(static_cast<int>(change.kind)).second);
      const bool wasThere = base.contains(change.path), isThere = now.contains(change.path);
      switch (change.kind) {
        case ChangeKind::kAdded:
          CHECK(isThere);
          break;
        case ChangeKind::kRemoved:
          CHECK(wasThere);
          break;
        default:
          CHECK(wasThere && isThere);
      }
    }
    for (const auto& [path, was] : base) {
      const auto at = now.find(path);
      const auto& kind = kinds[path];
      if (at == now.end()) {
        CHECK(kind.contains(static_cast<int>(ChangeKind::kRemoved)) && kind.size() == 1);
      } else if ((at->second.mode & S_IFMT) != (was.mode & S_IFMT)) {
        CHECK(kind.contains(static_cast<int>(ChangeKind::kRemoved)) &&
              kind.contains(static_cast<int>(ChangeKind::kAdded)));
      } else if (S_ISREG(was.mode) && at->second.content != was.content) {
        check::verify(kind.contains(static_cast<int>(ChangeKind::kModified)), __FILE__, __LINE__,
                      path + " was modified");
      } else if (!was.isDirectory() && !sameToReader(was, at->second)) {
        check::verify(!kind.empty(), __FILE__, __LINE__, path + " was changed");
      }
    }
    for (const auto& [path, is] : now) {
      if (!base.contains(path))
        CHECK(kinds[path].contains(static_cast<int>(ChangeKind::kAdded)) && kinds[path].size() == 1);
    }
  }
}

TEST(hard_links_of_the_base_nobody_looked_at) {
  Store store;
  store.lower = {{"a/one", "old bytes"}, {"b/two", "old bytes"}, {"b/sub/three", "old bytes"}};
  ManifestWriter writer;
  writer.add(0, "", plainEntry(S_IFDIR | 0755), "", "");
  const uint32_t a = writer.add(0, "a", plainEntry(S_IFDIR | 0755), "", "");
  const uint32_t b = writer.add(0, "b", plainEntry(S_IFDIR | 0755), "", "");
  const uint32_t sub = writer.add(b, "sub", plainEntry(S_IFDIR | 0755), "", "");
  Entry file = plainEntry(S_IFREG | 0644, 9);
  file.ino = 1, file.nlink = 5, file.flags = kSeveralNames;  // two more names outside
  writer.add(a, "one", file, "", "");
  writer.add(b, "two", file, "", "");
  writer.add(sub, "three", file, "", "");
  const uint64_t next = writer.numberDensely(4096);
  REQUIRE(writer.write(store.manifestPath(0), {0, next, 0}) == 0);
  InoSource numbers(uint64_t{1} << 32, 1 << 20);
  std::filesystem::create_directory(store.dir / "txn1");
  Transaction tree(optionsFor(store, 1, store.root(0), numbers));
  REQUIRE(tree.create() == 0);

  const uint64_t one = tree.resolve("a/one");
  CHECK_EQ(tree.getattr(one).attributes.nlink, 5u);
  CHECK_EQ(writeAt(store, tree, one, 0, "new"), 0);
  CHECK_EQ(tree.getattr(one).attributes.nlink, 3u);  // copied: apart from those outside
  CHECK_EQ(tree.remove(tree.resolve("a"), "one", false), 0);
  CHECK_EQ(tree.rename(tree.resolve("b"), "sub", kRootIno, "moved", 0), 0);
  const uint64_t two = tree.resolve("b/two");
  CHECK_EQ(two, one);
  CHECK_EQ(contentOf(store, tree, two), "new bytes");
  CHECK_EQ(tree.getattr(two).attributes.nlink, 2u);

  // The generation shows it at all names, also those that nobody looked at.
  tree.freeze();
  const MergeResult merged =
      mergeToManifest({tree, store.root(0), store.root(0), 1, 1, store.manifestPath(1), numbers, 0});
  CHECK_EQ(merged.error, 0);
  CHECK(merged.conflicts.empty());
  store.layers[{1, one}] = "new bytes";
  const Tree committed = store.tree(store.root(1));
  REQUIRE(committed.contains("b/two") && committed.contains("moved/three"));
  CHECK_EQ(committed.at("b/two").content, "new bytes");
  CHECK_EQ(committed.at("moved/three").content, "new bytes");
  CHECK_EQ(committed.at("b/two").ino, committed.at("moved/three").ino);
  CHECK(!committed.contains("a/one"));

  // In a third generation "moved" is imported: the next transaction still knows that it is one file.
  std::filesystem::create_directory(store.dir / "txn2");
  Transaction second(optionsFor(store, 2, store.root(1), numbers));
  REQUIRE(second.create() == 0);
  CHECK(second.create(second.resolve("b"), "unrelated", S_IFREG | 0600, 0, 0, 0, "", 0).error == 0);
  second.freeze();
  REQUIRE(
      mergeToManifest({second, store.root(1), store.root(1), 2, 2, store.manifestPath(2), numbers, merged.maxMtimeNs})
          .error == 0);
  CHECK(!store.load(2)->imports().empty());
  std::filesystem::create_directory(store.dir / "txn3");
  Transaction third(optionsFor(store, 3, store.root(2), numbers));
  REQUIRE(third.create() == 0);
  const uint64_t again = third.resolve("b/two");
  CHECK_EQ(third.getattr(again).attributes.nlink, 2u);
  CHECK_EQ(writeAt(store, third, again, 0, "3rd"), 0);
  CHECK_EQ(third.remove(third.resolve("b"), "two", false), 0);
  CHECK_EQ(contentOf(store, third, third.resolve("moved/three")), "3rd bytes");
}

TEST(linked_in_a_transaction) {
  Store store;
  Random random;
  writeRandomBase(store, random, 4096, 0, false);
  InoSource numbers(uint64_t{1} << 32, 1 << 20);
  std::filesystem::create_directory(store.dir / "txn1");
  Transaction first(optionsFor(store, 1, store.root(0), numbers));
  REQUIRE(first.create() == 0);
  const uint64_t d = first.create(kRootIno, "d", S_IFDIR | 0755, 0, 0, 0, "", 0).attributes.ino;
  const uint64_t file = first.create(d, "file", S_IFREG | 0644, 0, 0, 0, "", 0).attributes.ino;
  CHECK_EQ(writeAt(store, first, file, 0, "bytes"), 0);
  store.layers[{1, file}] = "bytes";
  first.freeze();
  REQUIRE(mergeToManifest({first, store.root(0), store.root(0), 1, 1, store.manifestPath(1), numbers, 0}).error == 0);

  // A second name of a committed file, elsewhere.
  std::filesystem::create_directory(store.dir / "txn2");
  Transaction second(optionsFor(store, 2, store.root(1), numbers));
  REQUIRE(second.create() == 0);
  CHECK_EQ(second.link(second.resolve("d/file"), kRootIno, "other", 0).error, 0);
  second.freeze();
  REQUIRE(mergeToManifest({second, store.root(1), store.root(1), 2, 2, store.manifestPath(2), numbers, 0}).error == 0);
  const Tree tree = store.tree(store.root(2));
  REQUIRE(tree.contains("other") && tree.contains("d/file"));
  CHECK_EQ(tree.at("other").content, "bytes");
  CHECK_EQ(tree.at("other").ino, tree.at("d/file").ino);
  CHECK_EQ(tree.at("other").nlink, 2u);
  CHECK_EQ(tree.at("d/file").nlink, 2u);

  std::filesystem::create_directory(store.dir / "txn3");
  Transaction third(optionsFor(store, 3, store.root(2), numbers));
  REQUIRE(third.create() == 0);
  CHECK_EQ(third.resolve("other"), third.resolve("d/file"));
}

TEST(listing_while_names_change) {
  Random random;
  for (int round = 0; round < 40; ++round) {
    World world(random, 0);
    Transaction& tree = *world.tree;
    std::set<std::string> stable;
    for (int i = 0; i < 60; ++i) {
      const std::string name = "keep" + std::to_string(i);
      CHECK_EQ(tree.create(kRootIno, name, S_IFREG | 0644, 0, 0, 0, "", 0).error, 0);
      stable.insert(name);
      CHECK_EQ(tree.create(kRootIno, "go" + std::to_string(i), S_IFREG | 0644, 0, 0, 0, "", 0).error, 0);
    }
    // Every name with a base position too: commit, and go on from there.
    tree.freeze();
    REQUIRE(mergeToManifest(
                {tree, world.store.root(0), world.store.root(0), 1, 1, world.store.manifestPath(1), world.numbers, 0})
                .error == 0);
    std::filesystem::create_directory(world.store.dir / "txn2");
    Transaction second(optionsFor(world.store, 2, world.store.root(1), world.numbers));
    REQUIRE(second.create() == 0);
    for (int i = 0; i < 30; ++i) {
      const std::string name = "new" + std::to_string(i);
      CHECK_EQ(second.create(kRootIno, name, S_IFREG | 0644, 0, 0, 0, "", 0).error, 0);
      stable.insert(name);
    }
    std::set<std::string> seen;
    std::map<std::string, uint64_t> cookies;
    uint64_t after = 0;
    int serial = 0;
    for (bool more = true; more;) {
      more = false;
      size_t room = 1 + random(7);
      uint64_t last = after;
      CHECK_EQ(second.list(kRootIno, after, UINT64_MAX, 1,
                           [&](const Transaction::Listed& listed) {
                             if (room-- == 0) return false;
                             const std::string name(listed.name);
                             CHECK(listed.cookie > last);
                             last = listed.cookie;
                             if (stable.contains(name)) CHECK(seen.insert(name).second);
                             more = true;
                             return true;
                           }),
               0);
      after = last;
      for (int i = 0; i < 3; ++i) {
        const std::string name = "go" + std::to_string(random(60));
        if (random.chance(50)) {
          second.remove(kRootIno, name, false);
        } else if (random.chance(50) && ++serial < 40) {
          second.rename(kRootIno, name, kRootIno, "came" + std::to_string(serial), 0);
        } else if (++serial < 40) {
          second.create(kRootIno, name, S_IFREG | 0644, 0, 0, 0, "", 0);
        }
      }
    }
    CHECK(seen == stable);
  }
}

TEST(unlinked_but_open) {
  Random random;
  World world(random, 0);
  Transaction& tree = *world.tree;
  const uint64_t ino = tree.create(kRootIno, "f", S_IFREG | 0644, 0, 0, 0, "", 1).attributes.ino;
  CHECK_EQ(writeAt(world.store, tree, ino, 0, "bytes"), 0);
  CHECK_EQ(tree.remove(kRootIno, "f", false), 0);
  CHECK_EQ(tree.getattr(ino).attributes.nlink, 0u);
  CHECK_EQ(contentOf(world.store, tree, ino), "bytes");
  CHECK(tree.hasKernelReferences());
  CHECK_EQ(tree.lookup(kRootIno, "f", 0).error, ENOENT);
  tree.forget(ino, 1);
  CHECK(!tree.knows(ino));
  CHECK(!tree.hasKernelReferences());
  CHECK(!std::filesystem::exists(world.store.dir / ("txn1/bodies/" + Transaction::bodyName(ino))));
  tree.forget(ino, 7);
  tree.forget(12345, 7);

  // A directory that is gone takes nothing in.
  const uint64_t gone = tree.create(kRootIno, "d", S_IFDIR | 0755, 0, 0, 0, "", 1).attributes.ino;
  const uint64_t file = tree.create(kRootIno, "g", S_IFREG | 0644, 0, 0, 0, "", 1).attributes.ino;
  CHECK_EQ(tree.remove(kRootIno, "d", true), 0);
  CHECK_EQ(tree.create(gone, "x", S_IFREG | 0644, 0, 0, 0, "", 0).error, ENOENT);
  CHECK_EQ(tree.link(file, gone, "x", 0).error, ENOENT);
  CHECK_EQ(tree.rename(kRootIno, "g", gone, "x", 0), ENOENT);
  CHECK_EQ(tree.lookup(gone, "x", 0).error, ENOENT);
  CHECK(!tree.pathOfDirectory(gone));
  CHECK_EQ(tree.list(gone, 0, UINT64_MAX, 0, [](const Transaction::Listed&) { return true; }), 0);
}

TEST(transaction_errors) {
  Random random;
  World world(random, 0);
  Transaction& tree = *world.tree;
  const uint64_t file = tree.create(kRootIno, "f", S_IFREG | 0644, 0, 0, 0, "", 0).attributes.ino;
  CHECK_EQ(tree.lookup(file, "x", 0).error, ENOTDIR);
  CHECK_EQ(tree.create(file, "x", S_IFREG | 0644, 0, 0, 0, "", 0).error, ENOTDIR);
  CHECK_EQ(tree.list(file, 0, UINT64_MAX, 0, [](const Transaction::Listed&) { return true; }), ENOTDIR);
  CHECK_EQ(tree.lookup(99, "x", 0).error, ESTALE);
  CHECK_EQ(tree.getattr(99).error, ESTALE);
  CHECK_EQ(tree.rename(kRootIno, "f", kRootIno, "g", 1 << 3), EINVAL);
  std::string target;
  CHECK_EQ(tree.readlink(file, target), EINVAL);
  CHECK_EQ(tree.bodyPlace(kRootIno).error, EISDIR);
  CHECK_EQ(tree.setXattr(file, std::string(256, 'n'), "", 0), ERANGE);
  CHECK_EQ(tree.setXattr(file, "user.a", std::string(65537, 'v'), 0), ERANGE);
  InoSource none(4096, 1024);
  std::filesystem::create_directory(world.store.dir / "txn9");
  Transaction poor(optionsFor(world.store, 9, world.store.root(0), none));
  REQUIRE(poor.create() == 0);
  int made = 0;
  while (poor.create(kRootIno, std::to_string(made), S_IFREG, 0, 0, 0, "", 0).error == 0) ++made;
  CHECK_EQ(made, 1024);
  CHECK_EQ(poor.create(kRootIno, "more", S_IFREG, 0, 0, 0, "", 0).error, ENFILE);
}

TEST(freeze_waits_for_changes) {
  Random random;
  World world(random, 0);
  Transaction& tree = *world.tree;
  REQUIRE(tree.enter());
  std::atomic<bool> frozen{false};
  std::thread freezer([&] {
    tree.freeze();
    frozen = true;
  });
  while (tree.enter()) {
    tree.leave();
    std::this_thread::yield();
  }
  CHECK(!frozen);
  CHECK(tree.state() == TransactionState::kOpen);
  tree.leave();
  freezer.join();
  CHECK(tree.state() == TransactionState::kFrozen);
  CHECK(!tree.enter());
  tree.freeze();  // again is no harm
}

TEST(many_threads_in_one_tree) {
  Random random;
  World world(random, 80);
  Transaction& tree = *world.tree;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 engine(static_cast<unsigned>(t));
      const auto names = someNames();
      for (int i = 0; i < 400; ++i) {
        const std::string name = names[engine() % names.size()];
        const uint64_t directory = t % 2 == 0 ? kRootIno : tree.resolve(names[engine() % names.size()]);
        if (directory == 0) continue;
        switch (engine() % 6) {
          case 0:
            tree.create(directory, name, S_IFREG | 0644, 0, 0, 0, "", 0);
            break;
          case 1:
            tree.remove(directory, name, engine() % 2);
            break;
          case 2:
            tree.rename(directory, name, kRootIno, names[engine() % names.size()], engine() % 3);
            break;
          case 3:
            tree.list(directory, 0, UINT64_MAX, 0, [](const Transaction::Listed&) { return true; });
            break;
          case 4: {
            const auto found = tree.lookup(directory, name, 1);
            if (found.error != 0) break;
            if (S_ISREG(found.attributes.mode))
              writeAt(world.store, tree, found.attributes.ino, engine() % 10, "thread");
            tree.forget(found.attributes.ino, 1);
            break;
          }
          default:
            changesOf(tree);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const Tree now = treeOf(world.store, tree);
  const Tree again = treeOf(world.store, *world.restored());
  CHECK(sameTrees(
      now, again, [](const Seen& a, const Seen& b) { return sameToReader(a, b) && a.ino == b.ino; }, "restored"));
}

// Records that are whole, but say what no transaction ever said.
TEST(hostile_journals) {
  Random random;
  Store store;
  writeRandomBase(store, random, 4096, 40, true);
  const Manifest& base = *store.load(0);
  std::filesystem::create_directory(store.dir / "txn1");
  size_t sound = 0;
  for (int round = 0; round < 600; ++round) {
    std::filesystem::remove_all(store.dir / "txn1");
    std::filesystem::create_directories(store.dir / "txn1/bodies");
    {
      Journal journal;
      REQUIRE(journal.create(store.dir / "txn1/journal") == 0);
      Record r;
      r.type = RecordType::kBegin;
      CHECK_EQ(journal.append(r), 0);
      // Mostly plausible, so that it gets far.
      std::vector<uint64_t> inos{kRootIno};
      const uint64_t length = random(30);
      for (uint64_t i = 0; i < length; ++i) {
        r = {};
        r.type = static_cast<RecordType>(1 + random(11));
        r.ino = random.chance(50) ? 5000 + random(20) : random.pick(inos);
        r.parent = random.chance(5) ? random(8) : random.pick(inos);
        r.parent2 = random.pick(inos);
        r.generation = random.chance(5) ? 9 : 0;
        r.index = static_cast<uint32_t>(random.chance(3) ? random.bits() : random(base.size()));
        const uint32_t types[] = {S_IFDIR, S_IFREG, S_IFLNK, S_IFDIR, 0};
        r.mode = types[random(5)] | 0755;
        r.mask = static_cast<uint32_t>(random.bits());
        const uint32_t flags[] = {0, RENAME_EXCHANGE, RENAME_NOREPLACE, 0xff};
        r.flags = flags[random(4)];
        r.name = random.chance(4) ? "" : random.pick(someNames());
        if (r.type == RecordType::kMaterialise && r.index < base.size() && random.chance(70)) {
          r.name = base.name(base.entry(r.index));
        }
        r.name2 = random.pick(someNames());
        r.text = std::string(random(10), 't');
        CHECK_EQ(journal.append(r), 0);
        inos.push_back(r.ino);
      }
    }
    InoSource numbers(uint64_t{1} << 32, 1 << 20);
    Transaction tree(optionsFor(store, 1, store.root(0), numbers));
    const int e = tree.restore();
    CHECK(e == 0 || e == EBADMSG);
    if (e != 0) continue;
    ++sound;
    Tree all = treeOf(store, tree);
    for (const auto& [path, seen] : all) {
      if (seen.isDirectory()) CHECK(tree.pathOfDirectory(seen.ino).has_value());
    }
    changesOf(tree);
    const std::string path = store.dir / "merged";
    mergeToManifest({tree, store.root(0), store.root(0), 1, 1, path, numbers, 0});
    std::filesystem::remove(path);
  }
  CHECK(sound > 8);
}
