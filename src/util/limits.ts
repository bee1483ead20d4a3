/** Every bound and waiting time in one place. */

/** Each server start owns this many inode numbers: [n * span, (n + 1) * span), n >= 1. */
export const INO_SPAN = 2n ** 32n;
/** Each start owns this many transaction numbers, so they are never used twice. */
export const TRANSACTION_SPAN = 2 ** 10;
/** Inode numbers have 50 bits, since the kernel's have a root's number above them (native/overlay/own_root.h). */
export const MAX_STARTS = 2 ** 18;

/** How long new readers wait for the decision about an installer that has exited. */
export const BARRIER_MS = 60_000;
/** A program that is no installer commits when it has changed nothing for so long. */
export const QUIET_MS = 2_000;
export const QUIET_POLL_MS = 250;

/** What the store must know of a kept transaction, and the disk did not take, is tried again so often. */
export const KEEP_RETRY_MS = 3_000;

export const MAX_MESSAGE_BYTES = 1 << 20;
export const MAX_CONNECTIONS = 64;
export const REQUEST_TIMEOUT_MS = 10_000;
/** The keeper takes the mount out of the mount table at once, or says why not; else the server does it. */
export const KEEPER_ANSWER_MS = 20_000;
/** An unmount: the kernel gives back every name and inode that it has cached, millions on a large host. */
export const UNMOUNT_TIMEOUT_MS = 120_000;
/** A daemon that serves on for so long after its unmount may have copies of the mount to serve: they are looked for. */
export const LOOK_FOR_COPIES_MS = 3_000;
/** A forced unmount: how long copies of the mount are served before they are cut off. */
export const CUT_OFF_MS = 3_000;
/** From spawning the server until it serves. */
export const SERVER_START_TIMEOUT_MS = 30_000;

/**
 * A tree of so many entries is compared with the store in full before it is mounted: 0.2 s when it is in memory. Of a larger
 * one only the directories are; its files are compared in the background.
 */
export const ENTRIES_COMPARED_FIRST = 100_000;
/** Differences that are named when the lower has changed. */
export const LOWER_CHANGES_SHOWN = 5;
