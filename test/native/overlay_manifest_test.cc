// overlay/manifest: round trips, and files that are damaged in every place.
#include <algorithm>
#include <cstddef>
#include <functional>

#include "overlay_fixture.h"

using namespace siteswap::test;

namespace {

void fixChecksum(std::string& bytes) {
  ManifestHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  header.checksum = 0;
  const uint64_t seed = xxh64(&header, sizeof header, 0);
  header.checksum = xxh64(bytes.data() + sizeof header, bytes.size() - sizeof header, seed);
  std::memcpy(bytes.data(), &header, sizeof header);
}

// Everything that a reader may do with a manifest that open() let pass. Entries that import lead elsewhere: not
// followed, the overlay checks their targets when it loads the other manifest.
void useAll(const Manifest& m) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < m.size(); ++i) {
    const Entry& e = m.entry(i);
    sum += m.name(e).size() + m.link(e).size() + decodeXattrs(m.xattrs(e)).size();
    const Committed at{&m, i};
    sum += at.path().size() + at.lowerPath().size();
    m.indexOf(e.ino);
    if (!S_ISDIR(e.mode) || (e.flags & kImported) != 0) continue;
    for (uint32_t c = 0; c < e.childCount; ++c) {
      const std::string_view name = at.nameOfChild(c);
      const auto index = m.childIndex(e, name);
      CHECK(index && *index == e.firstChild + c);
    }
    CHECK(!m.childIndex(e, "no such name"));
  }
  CHECK(sum < uint64_t{1} << 50);
}

// Opens what may be damaged: it must be refused with a message, or be sound.
bool isAccepted(const TempDir& dir, const std::string& bytes) {
  const std::string path = dir / "damaged";
  writeFile(path, bytes);
  std::string error;
  const auto manifest = Manifest::open(path, error);
  if (manifest) {
    useAll(*manifest);
    return true;
  }
  CHECK(!error.empty() && error.find('\n') == std::string::npos);
  return false;
}

// A base, and a second generation that imports from it: bytes of both.
struct Corpus {
  Corpus() {
    Random random;
    writeRandomBase(store, random, 1 << 10, 60, true);
    const Committed root = store.root(0);
    ManifestWriter writer;
    Entry rootEntry = plainEntry(S_IFDIR | 0755);
    rootEntry.ino = kRootIno;
    writer.add(0, "", rootEntry, "", "");
    uint64_t ino = 1 << 20;
    for (uint32_t i = 0; i < root.entry().childCount; ++i) {
      const Committed child = root.childAt(i);
      if (child.isDirectory()) writer.addImport(root.nameOfChild(i), child);
    }
    Entry e = plainEntry(S_IFDIR | 0700);
    e.ino = ino++;
    const uint32_t directory = writer.add(0, "zz-new", e, "", "");
    for (const char* name : {"m", "k", "l"}) {
      e = plainEntry(S_IFREG | 0600, 10);
      e.ino = ino++;
      e.layer = 7, e.body = e.ino;
      writer.add(directory, name, e, "", encodeXattrs({{"user.a", "b"}}));
    }
    e = plainEntry(S_IFREG | 0600, 10);
    e.ino = ino++;
    e.flags = kHasLowerPath;
    writer.add(directory, "moved", e, "some/where", "");
    CHECK_EQ(writer.write(store.manifestPath(1), {1, ino, 5}), 0);
    dense = readFile(store.manifestPath(0));
    indexed = readFile(store.manifestPath(1));
  }
  Store store;
  std::string dense, indexed;
};

size_t entryAt(size_t index) {
  return sizeof(ManifestHeader) + index * sizeof(Entry);
}

void patchEntry(std::string& bytes, size_t index, const std::function<void(Entry&)>& change) {
  Entry e;
  std::memcpy(&e, bytes.data() + entryAt(index), sizeof e);
  change(e);
  std::memcpy(bytes.data() + entryAt(index), &e, sizeof e);
}
void patchHeader(std::string& bytes, const std::function<void(ManifestHeader&)>& change) {
  ManifestHeader h;
  std::memcpy(&h, bytes.data(), sizeof h);
  change(h);
  std::memcpy(bytes.data(), &h, sizeof h);
}

}  // namespace

TEST(xxh64_known_values) {
  CHECK(xxh64("", 0, 0) == 0xef46db3751d8e999ULL);
  CHECK(xxh64("a", 1, 0) == 0xd24ec4f1a98c6e5bULL);
  CHECK(xxh64("abc", 3, 0) == 0x44bc2cf5ad770999ULL);
  const std::string text = "Nobody inspects the spammish repetition";
  CHECK(xxh64(text.data(), text.size(), 0) == 0xfbcea83c8a378bf1ULL);
}

TEST(round_trip_of_random_trees) {
  Random random;
  for (int round = 0; round < 30; ++round) {
    TempDir dir;
    ManifestWriter writer;
    std::map<std::string, std::pair<Entry, std::string>> wanted;  // by path: entry, target or lower path
    std::map<std::string, std::vector<std::string>> children;
    std::map<std::string, std::string> xattrs;
    std::vector<std::pair<uint32_t, std::string>> directories{{0, ""}};
    Entry rootEntry = plainEntry(S_IFDIR | 0755);
    rootEntry.ino = kRootIno;
    writer.add(0, "", rootEntry, "", "");
    const bool dense = random.chance(50);
    std::vector<uint64_t> inos;
    for (uint64_t i = 0; i < 300; ++i) inos.push_back(100 + i * 3);
    std::shuffle(inos.begin(), inos.end(), std::mt19937_64(random.bits()));
    const unsigned count = static_cast<unsigned>(random(300));
    for (unsigned i = 0; i < count; ++i) {
      const auto [handle, directory] = random.pick(directories);
      std::string name(1 + random(random.chance(5) ? 255 : 6), 'a');
      for (char& c : name) {
        do c = static_cast<char>(random(256));
        while (c == '/' || c == '\0');
      }
      if (name == "." || name == ".." || wanted.contains(joined(directory, name))) continue;
      const std::string path = joined(directory, name);
      const uint64_t kind = random(4);
      Entry e = plainEntry(kind == 0 ? S_IFDIR | 0755 : kind == 1 ? S_IFLNK | 0777 : S_IFREG | 0644, random(1 << 20));
      e.ino = dense ? 0 : inos[i];
      e.uid = static_cast<uint32_t>(random.bits()), e.gid = static_cast<uint32_t>(random.bits());
      e.mtimeNs = static_cast<int64_t>(random.bits());
      const std::string link = kind == 1 ? std::string(random(300), 't') : "";
      xattrs[path] = random.chance(20) ? encodeXattrs({{"user.x", path}}) : "";
      const uint32_t added = writer.add(handle, name, e, link, xattrs[path]);
      if (kind == 0) directories.emplace_back(added, path);
      wanted[path] = {e, link};
      children[directory].push_back(name);
    }
    uint64_t next = 1000;
    if (dense) next = writer.numberDensely(5000);
    REQUIRE(writer.write(dir / "m", {3, next, 77}) == 0);
    CHECK_EQ(writer.write(dir / "m", {3, next, 77}), EEXIST);
    std::string error;
    const auto m = Manifest::open(dir / "m", error);
    REQUIRE(m != nullptr);
    CHECK_EQ(m->size(), wanted.size() + 1);
    CHECK_EQ(m->generation(), 3u);
    CHECK_EQ(m->header().maxMtimeNs, 77);
    useAll(*m);
    std::set<uint64_t> numbers;
    for (const auto& [path, entry] : wanted) {
      Committed at{m.get(), 0};
      for (std::string_view rest = path; at && !rest.empty();) {
        const size_t slash = rest.find('/');
        at = at.child(rest.substr(0, slash));
        rest = slash == std::string_view::npos ? "" : rest.substr(slash + 1);
      }
      REQUIRE(static_cast<bool>(at));
      const Entry& e = at.entry();
      CHECK_EQ(at.path(), path);
      CHECK(e.mode == entry.first.mode && e.size == entry.first.size && e.uid == entry.first.uid &&
            e.gid == entry.first.gid && e.mtimeNs == entry.first.mtimeNs);
      CHECK(m->link(e) == entry.second);
      CHECK(m->xattrs(e) == xattrs[path]);
      if (!dense) CHECK_EQ(e.ino, entry.first.ino);
      CHECK(numbers.insert(e.ino).second);
      const auto byNumber = m->indexOf(e.ino);
      CHECK(byNumber && *byNumber == at.index);
      if (!S_ISDIR(e.mode)) continue;
      std::vector<std::string> sorted = children[path];
      std::sort(sorted.begin(), sorted.end());
      CHECK_EQ(e.childCount, sorted.size());
      for (uint32_t i = 0; i < e.childCount; ++i) CHECK(at.nameOfChild(i) == sorted[i]);
      for (int i = 0; i < 5; ++i) {
        const std::string name =
            random.chance(50) && !sorted.empty() ? random.pick(sorted) + (random.chance(50) ? "" : "a") : "q";
        CHECK_EQ(static_cast<bool>(at.child(name)), wanted.contains(joined(path, name)));
      }
    }
    for (uint64_t ino : {uint64_t{0}, uint64_t{2}, ~uint64_t{0}, uint64_t{5000}, next}) {
      if (!numbers.contains(ino)) CHECK(!m->indexOf(ino));
    }
    CHECK_EQ(*m->indexOf(kRootIno), 0u);
  }
}

TEST(hard_links_share_a_number) {
  Store store;
  Random random;
  writeRandomBase(store, random, 4096, 400, true);
  const Manifest& m = *store.load(0);
  std::map<uint64_t, std::vector<uint32_t>> byNumber;
  for (uint32_t i = 1; i < m.size(); ++i) byNumber[m.entry(i).ino].push_back(i);
  size_t shared = 0;
  for (const auto& [ino, indexes] : byNumber) {
    shared += indexes.size() > 1;
    for (const uint32_t i : indexes) {
      CHECK_EQ((m.entry(i).flags & kSeveralNames) != 0, indexes.size() > 1);
      if (!S_ISDIR(m.entry(i).mode)) CHECK_EQ(m.entry(i).nlink, indexes.size());
    }
    CHECK_EQ(*m.indexOf(ino), indexes.front());
  }
  CHECK(shared > 3);
}

TEST(truncated_everywhere_is_refused) {
  Corpus corpus;
  Random random;
  for (const std::string& good : {corpus.dense, corpus.indexed}) {
    std::vector<size_t> lengths;
    for (size_t i = 0; i <= sizeof(ManifestHeader); ++i) lengths.push_back(i);
    ManifestHeader h;
    std::memcpy(&h, good.data(), sizeof h);
    size_t at = entryAt(h.entryCount);
    for (const size_t section :
         {size_t{0}, h.importCount * sizeof(ImportRecord), h.inoIndexCount * sizeof(InoIndexRecord)}) {
      at += section;
      for (const size_t around : {at - 1, at, at + 1}) lengths.push_back(around);
    }
    for (int i = 0; i < 100; ++i) lengths.push_back(random(good.size()));
    TempDir dir;
    for (const size_t length : lengths) {
      if (length >= good.size()) continue;
      std::string cut = good.substr(0, length);
      CHECK(!isAccepted(dir, cut));
      if (length < sizeof(ManifestHeader)) continue;
      fixChecksum(cut);
      CHECK(!isAccepted(dir, cut));
      // Says that it is as long as it is: then the counts do not add up.
      patchHeader(cut, [&](ManifestHeader& header) { header.fileSize = length; });
      fixChecksum(cut);
      CHECK(!isAccepted(dir, cut));
    }
    CHECK(!isAccepted(dir, good + "x"));
    CHECK(isAccepted(dir, good));
  }
  TempDir dir;
  std::string error;
  CHECK(Manifest::open(dir / "nothing", error) == nullptr && !error.empty());
  error.clear();
  CHECK(Manifest::open(dir.path, error) == nullptr && !error.empty());
}

TEST(every_flipped_bit_is_noticed) {
  Corpus corpus;
  Random random;
  TempDir dir;
  for (const std::string& good : {corpus.dense, corpus.indexed}) {
    for (size_t i = 0; i < sizeof(ManifestHeader) + 2000; ++i) {
      const size_t at = i < sizeof(ManifestHeader) ? i : random(good.size());
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << random(8)));
      CHECK(!isAccepted(dir, bad));
    }
  }
}

TEST(damage_with_a_right_checksum_never_crashes) {
  Corpus corpus;
  Random random;
  TempDir dir;
  size_t accepted = 0;
  for (const std::string& good : {corpus.dense, corpus.indexed}) {
    ManifestHeader h;
    std::memcpy(&h, good.data(), sizeof h);
    for (int i = 0; i < 4000; ++i) {
      std::string bad = good;
      const size_t changes = 1 + random(3);
      for (size_t c = 0; c < changes; ++c) {
        // A 32-bit field of the header, an entry or the tables becomes something interesting, or another's value.
        const size_t room = (random.chance(20) ? sizeof(ManifestHeader) : bad.size()) / 4;
        const size_t at = random(room) * 4;
        const uint32_t values[] = {0,
                                   1,
                                   2,
                                   0xffffffff,
                                   0x7fffffff,
                                   0x80000000,
                                   static_cast<uint32_t>(h.entryCount),
                                   static_cast<uint32_t>(random.bits()),
                                   static_cast<uint32_t>(random(64))};
        std::memcpy(bad.data() + at, &values[random(std::size(values))], 4);
      }
      fixChecksum(bad);
      accepted += isAccepted(dir, bad);
    }
  }
  CHECK(accepted > 100);  // Times, owners, sizes: nothing that open() could judge.
}

TEST(structural_damage_is_refused) {
  Corpus corpus;
  TempDir dir;
  const std::string& dense = corpus.dense;
  const std::string& indexed = corpus.indexed;
  ManifestHeader h;
  std::memcpy(&h, dense.data(), sizeof h);
  const Manifest& m = *corpus.store.load(0);
  uint32_t parentIndex = 0, fileIndex = 0;
  for (uint32_t i = 1; i < m.size(); ++i) {
    if (S_ISDIR(m.entry(i).mode) && m.entry(i).childCount >= 2) parentIndex = i;
    if (S_ISREG(m.entry(i).mode)) fileIndex = i;
  }
  REQUIRE(parentIndex != 0 && fileIndex != 0);
  const auto refuses = [&](const char* what, const std::string& good, const std::function<void(std::string&)>& damage) {
    std::string bad = good;
    damage(bad);
    fixChecksum(bad);
    check::verify(!isAccepted(dir, bad), __FILE__, __LINE__, std::string("accepted: ") + what);
  };
  const auto refusesEntry = [&](const char* what, size_t index, const std::function<void(Entry&)>& change) {
    refuses(what, dense, [&](std::string& bytes) { patchEntry(bytes, index, change); });
  };
  const auto refusesHeader = [&](const char* what, const std::function<void(ManifestHeader&)>& change) {
    refuses(what, dense, [&](std::string& bytes) { patchHeader(bytes, change); });
    refuses(what, indexed, [&](std::string& bytes) { patchHeader(bytes, change); });
  };
  const auto last = static_cast<uint32_t>(h.entryCount - 1);
  refusesHeader("magic", [](ManifestHeader& x) { x.magic[0] = 's'; });
  refusesHeader("version", [](ManifestHeader& x) { x.version = kManifestVersion + 1; });
  refusesHeader("flags", [](ManifestHeader& x) { x.flags = 1; });
  refusesHeader("size", [](ManifestHeader& x) { x.fileSize += 1; });
  refusesHeader("no entries", [](ManifestHeader& x) { x.entryCount = 0; });
  refusesHeader("more entries", [](ManifestHeader& x) { x.entryCount += 1; });
  refusesHeader("entries wrap", [](ManifestHeader& x) { x.entryCount += uint64_t{1} << 57; });
  refusesHeader("more imports", [](ManifestHeader& x) { x.importCount += 1; });
  refusesHeader("imports wrap", [](ManifestHeader& x) { x.importCount += uint64_t{1} << 61; });
  refusesHeader("index wraps", [](ManifestHeader& x) { x.inoIndexCount += uint64_t{1} << 60; });
  refusesHeader("strings", [](ManifestHeader& x) { x.stringsSize -= 1; });

  refusesEntry("the root is a file", 0, [](Entry& e) { e.mode = S_IFREG; });
  refusesEntry("the root has another number", 0, [](Entry& e) { e.ino = 5; });
  refusesEntry("the root is imported", 0, [](Entry& e) { e.flags = kImported; });
  refusesEntry("the root has further children", 0, [](Entry& e) { e.childCount += 1; });
  refusesEntry("the root has fewer children", 0, [](Entry& e) { e.childCount -= 1; });
  refusesEntry("number 0", last, [](Entry& e) { e.ino = 0; });
  refusesEntry("number of the root", last, [](Entry& e) { e.ino = kRootIno; });
  refusesEntry("unknown flag", last, [](Entry& e) { e.flags = 8; });
  refusesEntry("no parent", last, [&](Entry& e) { e.parent = last + 1; });
  refusesEntry("its own parent", last, [&](Entry& e) { e.parent = last; });
  refusesEntry("another parent", last, [](Entry& e) { e.parent = e.parent == 0 ? 1 : 0; });
  refusesEntry("children before their parent", parentIndex, [](Entry& e) { e.firstChild = 0; });
  refusesEntry("its own child", parentIndex, [&](Entry& e) { e.firstChild = parentIndex; });
  refusesEntry("children beyond the end", parentIndex, [&](Entry& e) { e.firstChild = last; });
  refusesEntry("children wrap", parentIndex, [](Entry& e) { e.childCount = 0xffffffff; });
  refusesEntry("fewer children", parentIndex, [](Entry& e) { e.childCount -= 1; });
  refusesEntry("no children", parentIndex, [](Entry& e) { e.childCount = 0; });
  refusesEntry("children of a file", fileIndex, [&](Entry& e) { e.childCount = 1, e.firstChild = last; });
  refusesEntry("name beyond the strings", fileIndex, [&](Entry& e) { e.name = static_cast<uint32_t>(h.stringsSize); });
  refusesEntry("no name", fileIndex, [](Entry& e) { e.nameLen = 0; });
  refusesEntry("long name", fileIndex, [](Entry& e) { e.nameLen = 256, e.name = 0; });
  refusesEntry("link beyond the strings", fileIndex, [](Entry& e) { e.link = 1, e.linkLen = 0xffffffff; });
  refusesEntry("xattrs beyond the strings", fileIndex, [](Entry& e) { e.xattrs = 0xffffffff, e.xattrsLen = 1; });
  refusesEntry("no import", fileIndex, [](Entry& e) { e.flags = kImported; });
  const Entry parent = m.entry(parentIndex);
  for (const char bad : {'/', '\0'}) {
    refuses("character in a name", dense, [&](std::string& bytes) {
      Entry e;
      std::memcpy(&e, bytes.data() + entryAt(fileIndex), sizeof e);
      bytes[bytes.size() - h.stringsSize + e.name] = bad;
    });
  }
  refuses("unsorted", dense, [&](std::string& bytes) {
    Entry a = m.entry(parent.firstChild), b = m.entry(parent.firstChild + 1);
    patchEntry(bytes, parent.firstChild, [&](Entry& e) { e.name = b.name, e.nameLen = b.nameLen; });
    patchEntry(bytes, parent.firstChild + 1, [&](Entry& e) { e.name = a.name, e.nameLen = a.nameLen; });
  });
  refuses("one name twice", dense, [&](std::string& bytes) {
    const Entry a = m.entry(parent.firstChild);
    patchEntry(bytes, parent.firstChild + 1, [&](Entry& e) { e.name = a.name, e.nameLen = a.nameLen; });
  });
  const auto withDot = [&](uint16_t length) {
    refuses("a name of dots", dense, [&](std::string& bytes) {
      Entry e;
      std::memcpy(&e, bytes.data() + entryAt(fileIndex), sizeof e);
      const size_t strings = bytes.size() - h.stringsSize;
      const auto at = static_cast<uint32_t>(std::min<uint64_t>(e.name, h.stringsSize - length));
      std::memset(bytes.data() + strings + at, '.', length);
      patchEntry(bytes, fileIndex, [&](Entry& x) { x.name = at, x.nameLen = length; });
    });
  };
  withDot(1);
  withDot(2);

  // Of the second generation.
  std::memcpy(&h, indexed.data(), sizeof h);
  const Manifest& second = *corpus.store.load(1);
  uint32_t import = 0, own = 0;
  for (uint32_t i = 1; i < second.size(); ++i) {
    if (second.entry(i).flags & kImported) import = i;
    if (S_ISDIR(second.entry(i).mode) && (second.entry(i).flags & kImported) == 0) own = i;
  }
  REQUIRE(import != 0 && own != 0);
  refuses("import out of range", indexed, [&](std::string& bytes) {
    patchEntry(bytes, import, [&](Entry& e) { e.import = static_cast<uint32_t>(h.importCount); });
  });
  refuses("import of a file", indexed,
          [&](std::string& bytes) { patchEntry(bytes, import, [](Entry& e) { e.mode = S_IFREG; }); });
  refuses("import with children of its own", indexed,
          [&](std::string& bytes) { patchEntry(bytes, import, [](Entry& e) { e.childCount = 1; }); });
  refuses("the root is imported", indexed,
          [&](std::string& bytes) { patchEntry(bytes, 0, [](Entry& e) { e.flags = kImported; }); });
  refuses("import below the root", indexed, [&](std::string& bytes) {
    patchEntry(bytes, second.entry(own).firstChild,
               [](Entry& e) { e.flags = kImported, e.mode = S_IFDIR, e.childCount = 0; });
  });
  const size_t index = indexed.size() - h.stringsSize - h.inoIndexCount * sizeof(InoIndexRecord);
  const auto patchIndex = [&](const char* what, size_t record, const std::function<void(InoIndexRecord&)>& change) {
    refuses(what, indexed, [&](std::string& bytes) {
      InoIndexRecord r;
      char* at = bytes.data() + index + record * sizeof r;
      std::memcpy(&r, at, sizeof r);
      change(r);
      std::memcpy(at, &r, sizeof r);
    });
  };
  patchIndex("index out of range", 1, [&](InoIndexRecord& r) { r.index = h.entryCount; });
  patchIndex("index of another", 1, [](InoIndexRecord& r) { r.index = 0; });
  patchIndex("index unsorted", 0, [](InoIndexRecord& r) { r.ino = ~uint64_t{0}; });
}
