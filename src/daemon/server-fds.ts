/** The descriptors that the server inherits from the keeper. */
export const SERVER_FDS = {
  lower: 3,
  keeper: 4,
  /** Held, never used: the store stays locked as long as anybody serves it. */
  lock: 5,
  /** A socket by which the /dev/fuse descriptor comes: the server is started before there is a mount. */
  handover: 6,
} as const;
