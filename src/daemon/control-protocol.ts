/**
 * What is said over `control.sock`, as schemas: one JSON object a line, both ways.
 *
 *   request  {"id": 1, "method": "commit", "params": {"transaction": 1048577}}
 *   event    {"id": 1, "event": {"type": "step", "name": "verify", "transaction": 1048577}}      (none or more)
 *   reply    {"id": 1, "ok": true, "result": {"generation": 7}}
 *            {"id": 1, "ok": false, "error": {"code": "COMMIT_REFUSED", "message": …, "hint": …, "exitCode": 14}}
 *
 * Both sides check everything they get. Names and paths are text here: bytes that are no UTF-8 are replaced.
 */
import * as v from 'valibot';

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const pid = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const none = v.strictObject({});

export const generationSchema = v.object({
  generation: natural,
  parent: v.nullable(natural),
  createdMs: v.number(),
  reason: v.picklist(['base', 'commit', 'rollback']),
  transaction: v.nullable(natural),
  command: v.array(v.string()),
  uid: v.nullable(natural),
  entries: natural,
  packages: v.array(v.object({ name: v.string(), from: v.nullable(v.string()), to: v.nullable(v.string()) })),
  /** What verification found and let pass. */
  warnings: v.array(v.string()),
});
export type GenerationSummary = v.InferOutput<typeof generationSchema>;

/**
 * `open`: takes writes. `committing`: frozen, being verified or published. `staged`: ended well, waits for `commit`
 * (`--commit manual`). `refused`: kept for inspection, `commit --force` takes it.
 */
const transactionState = v.picklist(['open', 'committing', 'staged', 'refused']);
export type TransactionState = v.InferOutput<typeof transactionState>;

export const transactionSchema = v.object({
  id: natural,
  state: transactionState,
  command: v.array(v.string()),
  rootPid: v.number(),
  members: v.array(v.number()),
  mutations: natural,
  base: natural,
  /** Of its commit: a step, and the check that is running. */
  step: v.nullable(v.string()),
  /** Why it was refused. */
  reason: v.nullable(v.string()),
});
export type TransactionStatus = v.InferOutput<typeof transactionSchema>;

export const statusSchema = v.object({
  mountpoint: v.string(),
  store: v.string(),
  generation: natural,
  transactions: v.array(transactionSchema),
  pins: v.array(
    v.object({
      pid: v.number(),
      generation: natural,
      command: v.string(),
      sinceMs: v.number(),
      reason: v.picklist(['listed', 'inherited', 'moved']),
    }),
  ),
  /** Short sentences about what is wrong; empty when all is well. */
  health: v.array(v.string()),
  features: v.array(v.string()),
  kernel: v.object({ minor: natural }),
  counters: v.object({ requests: v.record(v.string(), v.number()), committedViewEvents: natural, parked: natural }),
  backend: v.string(),
  commit: v.picklist(['auto', 'manual']),
  serverPid: natural,
  version: v.string(),
});
export type Status = v.InferOutput<typeof statusSchema>;

const findingSchema = v.object({
  /** An error refuses the commit. */
  severity: v.picklist(['error', 'warning']),
  check: v.string(),
  path: v.string(),
  message: v.string(),
});

const commands = v.optional(v.array(v.string()));

export const methods = {
  status: { params: none, result: statusSchema },
  begin: {
    params: v.strictObject({ pid, explicit: v.literal(true), command: v.optional(v.array(v.string())) }),
    result: v.object({ transaction: natural, token: v.string() }),
  },
  commit: {
    /** `commands`: tests besides the mount's own. */
    params: v.strictObject({ transaction: v.optional(natural), force: v.optional(v.boolean()), commands }),
    result: v.object({ generation: natural, changed: v.boolean(), warnings: v.array(v.string()) }),
  },
  /** Checks a transaction that is kept once more. */
  verify: {
    params: v.strictObject({ transaction: v.optional(natural), commands }),
    result: v.object({
      transaction: natural,
      findings: v.array(findingSchema),
      checks: v.array(v.object({ name: v.string(), durationMs: v.number() })),
    }),
  },
  /** This process and its descendants see the transaction's tree from now on, read-only. */
  observe: {
    params: v.strictObject({ transaction: v.optional(natural), pid }),
    result: v.object({ transaction: natural, mountpoint: v.string() }),
  },
  abort: { params: v.strictObject({ transaction: v.optional(natural) }), result: v.object({ transaction: natural }) },
  /** Returns when no installer runs, and no commit is pending. */
  wait: {
    params: v.strictObject({ timeoutMs: v.optional(v.pipe(v.number(), v.minValue(0))) }),
    result: v.object({ generation: natural }),
  },
  /** Newest first. */
  log: {
    params: v.strictObject({ limit: v.optional(natural) }),
    result: v.object({
      generations: v.array(generationSchema),
      /** What was refused and is kept; empty when nothing is mounted. */
      refused: v.array(v.object({ id: natural, command: v.array(v.string()), reason: v.nullable(v.string()) })),
    }),
  },
  unmount: {
    params: v.strictObject({ force: v.boolean(), lazy: v.boolean() }),
    result: v.object({
      /** Processes of dropped transactions that still run, and write into the original directory now. */
      remaining: v.array(pid),
      /** A sentence for each kept transaction that the store could not be told of. */
      lost: v.array(v.string()),
    }),
  },
} as const;

export type Method = keyof typeof methods;
export type Params<M extends Method> = v.InferInput<(typeof methods)[M]['params']>;
export type Result<M extends Method> = v.InferOutput<(typeof methods)[M]['result']>;

export const progressSchema = v.object({
  type: v.literal('step'),
  transaction: natural,
  /** A name of `txn/commit`'s steps: freeze, verify, build, sync-layer, write-generation, move-head, swap, release. */
  name: v.string(),
  /** In the step `verify`: the check that begins. */
  detail: v.optional(v.string()),
});
export type Progress = v.InferOutput<typeof progressSchema>;

const requestSchema = v.object({
  id: natural,
  method: v.picklist(Object.keys(methods) as Method[]),
  params: v.optional(v.unknown()),
});

const errorSchema = v.object({
  code: v.string(),
  message: v.string(),
  hint: v.optional(v.string()),
  exitCode: natural,
});

const messageSchema = v.union([
  v.object({ id: natural, ok: v.literal(true), result: v.unknown() }),
  v.object({ id: natural, ok: v.literal(false), error: errorSchema }),
  v.object({ id: natural, event: progressSchema }),
]);
export type ServerMessage = v.InferOutput<typeof messageSchema>;

export type Request = {
  [M in Method]: { id: number; method: M; params: v.InferOutput<(typeof methods)[M]['params']> };
}[Method];

/** The number of a request that is otherwise not understood, so that its sender can be told. */
export function requestId(value: unknown): number {
  const result = v.safeParse(v.object({ id: natural }), value);
  return result.success ? result.output.id : 0;
}

/** Throws a ValiError that says what is wrong, in one line. */
export function parseRequest(value: unknown): Request {
  const { id, method, params } = v.parse(requestSchema, value);
  return { id, method, params: v.parse(methods[method].params, params ?? {}) } as Request;
}

export function parseMessage(value: unknown): ServerMessage {
  return v.parse(messageSchema, value);
}

export function parseResult<M extends Method>(method: M, value: unknown): Result<M> {
  return v.parse(methods[method].result, value) as Result<M>;
}
