// overlay/journal: records, torn ends, growth, and bytes that nobody wrote.
#include "overlay/journal.h"
#include "overlay_fixture.h"

using namespace siteswap::test;

namespace {

Record randomRecord(Random& random) {
  Record r;
  r.type = static_cast<RecordType>(1 + random(11));
  const auto word = [&] { return static_cast<uint32_t>(random.bits()); };
  const auto text = [&](size_t most) {
    std::string bytes(random(most), '\0');
    for (char& c : bytes) c = static_cast<char>(random(256));
    return bytes;
  };
  r.mode = word(), r.uid = word(), r.gid = word(), r.rdev = word(), r.flags = word(), r.mask = word(), r.index = word();
  r.ino = random.bits(), r.parent = random.bits(), r.parent2 = random.bits(), r.generation = random.bits();
  r.timeNs = static_cast<int64_t>(random.bits()), r.atimeNs = static_cast<int64_t>(random.bits());
  r.mtimeNs = static_cast<int64_t>(random.bits());
  r.name = text(256), r.name2 = text(256), r.text = text(random.chance(5) ? 65536 : 100);
  return r;
}

bool same(const Record& a, const Record& b) {
  return a.type == b.type && a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.rdev == b.rdev &&
         a.flags == b.flags && a.mask == b.mask && a.index == b.index && a.ino == b.ino && a.parent == b.parent &&
         a.parent2 == b.parent2 && a.generation == b.generation && a.timeNs == b.timeNs && a.atimeNs == b.atimeNs &&
         a.mtimeNs == b.mtimeNs && a.name == b.name && a.name2 == b.name2 && a.text == b.text;
}

std::vector<Record> replayed(const std::string& path, int wantedError = 0) {
  std::vector<Record> records;
  Journal journal;
  CHECK_EQ(journal.replay(path, [&](const Record& r) { records.push_back(r); }), wantedError);
  return records;
}

bool isPrefix(const std::vector<Record>& got, const std::vector<Record>& all) {
  if (got.size() > all.size()) return false;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!same(got[i], all[i])) return false;
  }
  return true;
}

// Where each record of a journal begins, and where the next one would.
std::vector<size_t> boundaries(const std::vector<Record>& records) {
  std::vector<size_t> at{8};
  for (const Record& r : records) at.push_back(at.back() + ((8 + encodeRecord(r).size() + 7) & ~size_t{7}));
  return at;
}

}  // namespace

TEST(records_round_trip) {
  Random random;
  for (int i = 0; i < 2000; ++i) {
    const Record r = randomRecord(random);
    const std::string bytes = encodeRecord(r);
    Record back;
    REQUIRE(decodeRecord(bytes, back));
    CHECK(same(r, back));
    CHECK(!decodeRecord(std::string_view(bytes).substr(0, random(bytes.size())), back));
    CHECK(!decodeRecord(bytes + "x", back));
  }
  Record r;
  CHECK(!decodeRecord("", r));
}

TEST(decoding_hostile_bytes) {
  Random random;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = encodeRecord(randomRecord(random));
    for (size_t c = 0; c < 1 + random(4); ++c)
      bytes[random(std::min<size_t>(bytes.size(), 120))] = static_cast<char>(random.chance(30) ? 0xff : random(256));
    Record r;
    if (decodeRecord(bytes, r)) CHECK_EQ(encodeRecord(r).size(), bytes.size());
  }
}

TEST(create_append_replay_append) {
  Random random;
  TempDir dir;
  std::vector<Record> all;
  {
    Journal journal;
    REQUIRE(journal.create(dir / "j") == 0);
    CHECK_EQ(Journal().create(dir / "j"), EEXIST);
    for (int i = 0; i < 50; ++i) {
      all.push_back(randomRecord(random));
      CHECK_EQ(journal.append(all.back()), 0);
    }
  }
  for (int round = 0; round < 5; ++round) {
    std::vector<Record> got;
    Journal journal;
    CHECK_EQ(journal.replay(dir / "j", [&](const Record& r) { got.push_back(r); }), 0);
    CHECK_EQ(got.size(), all.size());
    CHECK(isPrefix(got, all));
    for (int i = 0; i < 10; ++i) {
      all.push_back(randomRecord(random));
      CHECK_EQ(journal.append(all.back()), 0);
    }
  }
  CHECK_EQ(replayed(dir / "none", ENOENT).size(), 0u);
}

TEST(grows_over_many_mebibytes) {
  Random random;
  TempDir dir;
  std::vector<Record> all;
  Journal journal;
  REQUIRE(journal.create(dir / "j") == 0);
  size_t bytes = 0;
  while (bytes < (3 << 20) + 1000) {
    Record r = randomRecord(random);
    r.text.assign(random(65536), 'v');
    REQUIRE(journal.append(r) == 0);
    bytes += encodeRecord(r).size();
    all.push_back(std::move(r));
  }
  const auto got = replayed(dir / "j");
  CHECK_EQ(got.size(), all.size());
  CHECK(isPrefix(got, all));
}

TEST(a_record_that_ends_with_the_map) {
  // The end of a record at, before and behind each place near the end of the first mebibyte.
  for (int distance = -24; distance <= 24; distance += 8) {
    TempDir dir;
    Journal journal;
    REQUIRE(journal.create(dir / "j") == 0);
    Record big;
    big.type = RecordType::kCreate;
    const size_t fixed = encodeRecord(big).size();
    big.text.assign(static_cast<size_t>((1 << 20) - 8 - 8 - static_cast<int>(fixed) + distance), 't');
    REQUIRE(journal.append(big) == 0);
    Record small;
    small.type = RecordType::kWritten;
    small.ino = 77;
    CHECK_EQ(replayed(dir / "j").size(), 1u);
    REQUIRE(journal.append(small) == 0);
    const auto got = replayed(dir / "j");
    REQUIRE(got.size() == 2);
    CHECK(same(got[0], big) && same(got[1], small));
  }
}

TEST(torn_at_every_byte) {
  Random random;
  TempDir dir;
  std::vector<Record> all;
  {
    Journal journal;
    REQUIRE(journal.create(dir / "j") == 0);
    for (int i = 0; i < 4; ++i) {
      all.push_back(randomRecord(random));
      all.back().text.resize(all.back().text.size() % 50);
      CHECK_EQ(journal.append(all.back()), 0);
    }
  }
  const auto at = boundaries(all);
  const std::string whole = readFile(dir / "j");
  for (size_t cut = 0; cut <= at.back(); ++cut) {
    // Zeroes from there on (the process died in between), or the file ends there.
    std::string torn = whole.substr(0, at.back());
    std::fill(torn.begin() + static_cast<long>(cut), torn.end(), '\0');
    if (random.chance(30)) torn.resize(cut);
    writeFile(dir / "t", torn);
    std::vector<Record> got;
    {
      Journal journal;
      const int e = journal.replay(dir / "t", [&](const Record& r) { got.push_back(r); });
      if (cut < 8) {
        CHECK_EQ(e, EBADMSG);
        continue;
      }
      CHECK_EQ(e, 0);
      CHECK(isPrefix(got, all));
      // Padding and trailing zeroes of a record may be cut without harm: at least all that were whole.
      size_t wholeOnes = 0;
      while (wholeOnes < all.size() && at[wholeOnes + 1] <= cut) ++wholeOnes;
      CHECK(got.size() >= wholeOnes && got.size() <= wholeOnes + 1);
      got.push_back(all[0]);
      CHECK_EQ(journal.append(all[0]), 0);
    }
    const auto again = replayed(dir / "t");
    CHECK_EQ(again.size(), got.size());
    CHECK(isPrefix(again, got));
  }
}

TEST(what_a_torn_record_left_is_no_record_later) {
  Random random;
  TempDir dir;
  Record first = randomRecord(random), second = randomRecord(random), third = randomRecord(random);
  {
    Journal journal;
    REQUIRE(journal.create(dir / "j") == 0);
    for (const Record& r : {first, second, third}) CHECK_EQ(journal.append(r), 0);
  }
  const auto at = boundaries({first, second, third});
  std::string bytes = readFile(dir / "j");
  bytes[at[1] + 20] = static_cast<char>(bytes[at[1] + 20] ^ 1);  // the second is damaged
  writeFile(dir / "j", bytes);
  {
    Journal journal;
    int count = 0;
    CHECK_EQ(journal.replay(dir / "j", [&](const Record&) { ++count; }), 0);
    CHECK_EQ(count, 1);
    // Exactly as long: the third, if it still stood there, would follow.
    CHECK_EQ(journal.append(second), 0);
  }
  CHECK_EQ(replayed(dir / "j").size(), 2u);
}

TEST(hostile_files) {
  Random random;
  TempDir dir;
  std::vector<Record> all;
  {
    Journal journal;
    REQUIRE(journal.create(dir / "j") == 0);
    for (int i = 0; i < 20; ++i) {
      all.push_back(randomRecord(random));
      CHECK_EQ(journal.append(all.back()), 0);
    }
  }
  const size_t end = boundaries(all).back();
  const std::string whole = readFile(dir / "j").substr(0, end);
  for (int i = 0; i < 500; ++i) {
    std::string bad = whole;
    const auto at = boundaries(all);
    for (size_t c = 0; c < 1 + random(5); ++c) {
      const size_t place = random.chance(50) ? at[random(at.size() - 1)] + random(8) : random(bad.size());
      bad[place] = static_cast<char>(random.chance(40) ? 0xff : random(256));
    }
    writeFile(dir / "b", bad);
    Journal journal;
    size_t count = 0;
    const int e = journal.replay(dir / "b", [&](const Record&) { ++count; });
    CHECK(e == 0 || e == EBADMSG);
    CHECK(count <= all.size());
  }
  writeFile(dir / "empty", "");
  CHECK_EQ(replayed(dir / "empty", EBADMSG).size(), 0u);
  uint64_t generation = 0;
  CHECK_EQ(readBaseGeneration(dir / "empty", generation), EBADMSG);
  CHECK_EQ(readBaseGeneration(dir / "none", generation), ENOENT);
}

TEST(base_generation) {
  TempDir dir;
  {
    Journal journal;
    REQUIRE(journal.create(dir / "j") == 0);
    Record r;
    r.type = RecordType::kBegin;
    r.generation = 42;
    CHECK_EQ(journal.append(r), 0);
  }
  uint64_t generation = 0;
  CHECK_EQ(readBaseGeneration(dir / "j", generation), 0);
  CHECK_EQ(generation, 42u);
}

TEST(xattr_blobs) {
  Random random;
  for (int i = 0; i < 500; ++i) {
    Xattrs xattrs;
    for (uint64_t n = random(5); n > 0; --n) {
      xattrs["user." + std::string(random(250), 'n') + std::to_string(n)] = std::string(random(300), 'v');
    }
    std::erase_if(xattrs, [](const auto& item) { return item.first.size() > 255; });
    std::string blob = encodeXattrs(xattrs);
    CHECK(decodeXattrs(blob) == xattrs);
    if (blob.empty()) continue;
    for (int c = 0; c < 3; ++c) blob[random(blob.size())] = static_cast<char>(random(256));
    decodeXattrs(blob);
    decodeXattrs(std::string_view(blob).substr(0, random(blob.size())));
  }
}
