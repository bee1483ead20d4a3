/** The descriptors that the server inherits from the keeper. */
export const SERVER_FDS = {
  lower: 3,
  keeper: 4,
  /**
   * A socket by which, once it is mounted, the /dev/fuse descriptor comes, and then the store's lock: the server is started
   * before, and a keeper that dies until then must leave nobody who holds the store.
   */
  handover: 5,
} as const;
