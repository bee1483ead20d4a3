/**
 * The power is cut: what no sync made durable is lost. The store is on a disk of its own, whose ext4 is shut down without
 * a last write-back, which loses the same things; then it is mounted again.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { notRun } from '../helpers/mounted-site.js';
import { onStoreDisk } from '../helpers/store-disk.js';

/** `cut` loses what was not synced, and mounts the disk again. EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH. */
const PRELUDE = `
truncate -s 64m "$WORK/image"
mkfs.ext4 -q -F "$WORK/image" >/dev/null 2>&1 && mount -o loop "$WORK/image" "$WORK/disk" || { echo 'no disk'; exit 0; }
trap 'siteswap unmount --force "$DIR" >/dev/null 2>&1 || true; umount -l "$WORK/disk"' EXIT
shut() { python3 -c 'import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack("I", 2))' "$WORK/disk"; }
cut() {
  shut
  siteswap unmount --force "$DIR" >/dev/null 2>&1 || true
  until umount "$WORK/disk" 2>/dev/null; do sleep 0.1; done
  mount -o loop "$WORK/image" "$WORK/disk"
}
`;

/** What the script prints. */
async function onDisk(t: TestContext, script: string): Promise<string[] | null> {
  const lines = await onStoreDisk(t, PRELUDE, script);
  if (lines?.[0] !== 'no disk') return lines;
  notRun(t, 'no loop device with ext4');
  return null;
}

test('right after a mount that had nothing to commit: the store opens', async (t) => {
  const printed = await onDisk(
    t,
    `siteswap mount --store "$STORE" "$DIR" 2>/dev/null
    siteswap unmount "$DIR" 2>/dev/null
    sync
    siteswap mount --store "$STORE" "$DIR" 2>/dev/null
    cut
    siteswap mount --store "$STORE" "$DIR" 2>&1`,
  );
  if (printed !== null) assert.match(printed[0]!, /^mounted over /);
});

test('right after a refusal: the store opens, and what is kept is whole', async (t) => {
  const printed = await onDisk(
    t,
    `siteswap mount --store "$STORE" "$DIR" 2>/dev/null
    siteswap run --check false "$DIR" -- sh -c 'echo kept > "$DIR/new.py"' 2>/dev/null || echo "$?"
    cut
    siteswap mount --store "$STORE" "$DIR" 2>&1
    siteswap commit --force "$DIR" 2>/dev/null
    cat "$DIR/new.py"`,
  );
  if (printed === null) return;
  assert.equal(printed[0], '120');
  assert.match(printed[1]!, /^mounted over /);
  assert.deepEqual(printed.slice(2), ['1', 'kept']);
});

test('a file that was written in place: what was synced is there, and never less than was committed', async (t) => {
  const printed = await onDisk(
    t,
    `siteswap mount --store "$STORE" "$DIR" 2>/dev/null
    sync
    write() { python3 -c 'import os, sys
file = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(file, sys.argv[2].encode(), 0)
if len(sys.argv) > 3: os.fsync(file)' "$DIR/one.py" "$@"; }
    cp "$DIR/one.py" "$WORK/before"
    write '#'
    # The kernel may write back one file sooner than another.
    python3 -c 'import os, sys; os.fdatasync(os.open(sys.argv[1], os.O_RDWR))' "$STORE/live/journal"
    cut
    siteswap mount --store "$STORE" "$DIR" 2>/dev/null
    tail -c +2 "$WORK/before" | cmp - <(tail -c +2 "$DIR/one.py") && echo 'as before'
    write '2' synced
    cut
    siteswap mount --store "$STORE" "$DIR" 2>/dev/null
    head -c 1 "$DIR/one.py"`,
  );
  if (printed !== null) assert.deepEqual(printed, ['as before', '2']);
});

test('19: unmount of a store whose disk fails says so', async (t) => {
  const printed = await onDisk(
    t,
    `siteswap mount --store "$STORE" "$DIR" 2>/dev/null
    shut
    siteswap unmount --force "$DIR" 2>&1 || echo "$?"`,
  );
  if (printed === null) return;
  assert.match(printed[0]!, /^error: whether the store .* is free can't be told: EIO/);
  assert.equal(printed.at(-1), '19');
});
