/** The descriptors that the server inherits from the keeper. */
export const SERVER_FDS = {
  device: 3,
  lower: 4,
  keeper: 5,
  /** Held, never used: the store stays locked as long as anybody serves it. */
  lock: 6,
} as const;
