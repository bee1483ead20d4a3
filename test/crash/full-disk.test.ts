/** The store's disk is full: who is told, by which error, and that all is well when there is room again. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { onStoreDisk } from '../helpers/store-disk.js';

/** `$STORE` is on a small disk, which only the script sees; `fill` leaves no room there, `empty` takes that back. */
const PRELUDE = `
mount -t tmpfs -o size=4m,mode=0700 none "$WORK/disk"
fill() { dd if=/dev/zero of="$WORK/disk/fill" bs=4k 2>/dev/null || true; }
empty() { rm "$WORK/disk/fill"; }
trap 'siteswap unmount --force "$DIR" 2>/dev/null || true' EXIT
`;

const onSmallDisk = (t: TestContext, script: string): Promise<string[] | null> => onStoreDisk(t, PRELUDE, script);

test('an installer that can not begin gets ENOSPC, however often it tries, and nothing is left of that', async (t) => {
  const printed = await onSmallDisk(
    t,
    `siteswap mount --store "$STORE" "$DIR" 2>&1
    fill
    for i in 1 2 3; do mkdir "$DIR/new" 2>&1 || true; done
    cat "$DIR/one.py"
    ls "$STORE/transactions"
    empty
    mkdir "$DIR/new"
    siteswap wait "$DIR"`,
  );
  if (printed === null) return;
  const [mounted, ...rest] = printed;
  assert.match(mounted!, /^mounted over /);
  assert.deepEqual(
    rest.map((line) => line.replace(/^mkdir: .*: /, '')),
    [...Array.from({ length: 3 }, () => 'No space left on device'), '1', '1'],
  );
});

for (const [what, before] of [
  ['new', ''],
  ['known', 'siteswap mount --store "$STORE" "$DIR" 2>/dev/null; siteswap unmount "$DIR" 2>/dev/null'],
] as const) {
  test(`19: mount with a ${what} store says what is wrong`, async (t) => {
    const printed = await onSmallDisk(
      t,
      `${before}
      fill
      siteswap mount --store "$STORE" "$DIR" 2>&1 || echo "$?"
      empty
      siteswap mount --store "$STORE" "$DIR" 2>&1`,
    );
    if (printed === null) return;
    assert.match(printed[0]!, /^error: the store .* can't be (prepared|opened|used): ENOSPC: no space left on device/);
    assert.deepEqual(printed.slice(1, 3), [
      'hint: Free space on the disk of the store, or use another one with --store.',
      '19',
    ]);
    assert.match(printed[3]!, /^mounted over /);
  });
}

/** It ends well, and the disk is full by then. */
const STAGE = `
siteswap mount --commit manual --store "$STORE" "$DIR" 2>/dev/null
python3 -c '
import os, sys
os.mkdir(sys.argv[1])
with open(sys.argv[2], "wb", buffering=0) as fill:
    try:
        while True: fill.write(bytes(4096))
    except OSError: pass
' "$DIR/new" "$WORK/disk/fill"
siteswap wait "$DIR" >/dev/null
`;

test('19: unmount, while the store can not be told what is kept; it is as soon as there is room', async (t) => {
  const printed = await onSmallDisk(
    t,
    `${STAGE}
    siteswap status "$DIR" | grep 'no longer than this mount'
    siteswap unmount "$DIR" 2>&1 || echo "$?"
    empty
    for i in $(seq 100); do
      grep -q '"staged"' "$STORE"/transactions/*/info.json && break
      sleep 0.2
    done
    siteswap unmount "$DIR" 2>&1
    siteswap mount --store "$STORE" "$DIR" 2>/dev/null
    siteswap commit "$DIR" >/dev/null 2>&1
    ls -d "$DIR/new"`,
  );
  if (printed === null) return;
  const [health, error, hint, code, unmounted, found] = printed;
  assert.match(health!, /transaction \d+ \(python3 .*\) is kept no longer than this mount: .*ENOSPC/);
  assert.match(error!, /^error: transaction \d+ \(python3 .*ENOSPC/);
  assert.match(hint!, /^hint: Free space/);
  assert.equal(code, '19');
  assert.match(unmounted!, /^unmounted /);
  assert.match(found!, /\/new$/);
});

test('unmount --force says what is lost', async (t) => {
  const printed = await onSmallDisk(t, `${STAGE} siteswap unmount --force "$DIR" 2>&1`);
  if (printed === null) return;
  assert.match(printed[0]!, /^warning: transaction \d+ \(python3 .*ENOSPC/);
  assert.match(printed[1]!, /^unmounted /);
});
