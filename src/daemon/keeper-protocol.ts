/**
 * What keeper and server say to each other, and the keeper to the command that started it: one JSON object a line over
 * an inherited socket pair. All three are one program of one version, but a child may die in the middle of a line.
 */
import * as v from 'valibot';

const errorSchema = v.object({
  code: v.string(),
  message: v.string(),
  hint: v.optional(v.string()),
  exitCode: v.number(),
});

/** What is looked at before a commit, and how long and with how much. */
export const verifySettingsSchema = v.object({
  level: v.picklist(['none', 'record', 'import', 'deep']),
  /** The user's own tests, shell commands. */
  commands: v.array(v.string()),
  /** Names of checks that are switched off. */
  skip: v.array(v.string()),
  limits: v.object({ importMs: v.number(), commandMs: v.number(), memoryBytes: v.number(), processes: v.number() }),
});
export type VerifySettings = v.InferOutput<typeof verifySettingsSchema>;

/** Given to both as one JSON word on their command line. */
export const mountOptionsSchema = v.object({
  /** Absolute, resolved. */
  directory: v.string(),
  store: v.string(),
  foreground: v.boolean(),
  commit: v.picklist(['auto', 'manual']),
  verify: verifySettingsSchema,
  pin: v.union([v.picklist(['process', 'none']), v.object({ leaseSeconds: v.number() })]),
  backend: v.string(),
  /** Serve this generation, read-only; null: HEAD. */
  generation: v.nullable(v.number()),
});
export type MountOptions = v.InferOutput<typeof mountOptionsSchema>;

export const serverMessageSchema = v.variant('type', [
  v.object({ type: v.literal('serving') }),
  v.object({ type: v.literal('failed'), error: errorSchema }),
  /** The keeper mounted, so the keeper unmounts. */
  v.object({ type: v.literal('unmount'), lazy: v.boolean() }),
]);
export type ServerToKeeper = v.InferOutput<typeof serverMessageSchema>;

export const keeperMessageSchema = v.variant('type', [
  /** The /dev/fuse descriptor is there to be received. */
  v.object({
    type: v.literal('mounted'),
    /** Only the directories of the lower were compared with the store. */
    filesUnchecked: v.boolean(),
  }),
  v.object({ type: v.literal('unmounted'), error: v.nullable(errorSchema) }),
]);
export type KeeperToServer = v.InferOutput<typeof keeperMessageSchema>;

/** Keeper to command. */
export const startMessageSchema = v.variant('type', [
  /** What is being done, for the progress display. */
  v.object({ type: v.literal('progress'), text: v.string() }),
  /** Something that the user should know. */
  v.object({ type: v.literal('notice'), text: v.string() }),
  v.object({ type: v.literal('ready') }),
  v.object({ type: v.literal('failed'), error: errorSchema }),
]);
export type StartMessage = v.InferOutput<typeof startMessageSchema>;
